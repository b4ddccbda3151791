"""Processes of `serving`: their CPU time and memory are measured, and none is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loadtest.bench.serving import bench_processes
from loadtest.bench.serving.bench_processes import ProcessGroup
from loadtest.errors import LoadtestError
from tests.polling import until
from tests.process_is_gone import is_gone


def test_cpu_time_includes_that_of_children(tmp_path: Path) -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
    with ProcessGroup(tmp_path) as group:
        running = group.start("parent) x (", [sys.executable, "-c", code], 1)
        until(lambda: running.cpu_s() > bench_processes.cpu_s(running.process.pid) + 0.3)
        children = bench_processes._with_children(running.process.pid)
        assert len(children) == 2
    until(lambda: all(map(is_gone, children)))


def test_cpu_time_is_what_the_system_says() -> None:
    began, wanted = bench_processes.cpu_s(os.getpid()), time.process_time() + 0.2
    while time.process_time() < wanted:
        pass
    assert bench_processes.cpu_s(os.getpid()) - began == pytest.approx(0.2, abs=0.1)
    assert bench_processes.cpu_s(2**22 + 1) == 0


def test_written_memory_is_private_and_files_are_mapped(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(40_000_000))
    code = f"""
import mmap, sys
print("started", flush=True)
sys.stdin.readline()
file = open({str(tmp_path / "file")!r}, "rb")
view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
written = b"x" * 30_000_000
sum(view[::4096])
print("ready", flush=True)
sys.stdin.readline()
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        before = bench_processes.memory(process.pid)  # an interpreter's own memory differs between environments
        print(file=process.stdin, flush=True)
        assert process.stdout.readline() == "ready\n"
        after = bench_processes.memory(process.pid)
        process.communicate("\n")
    assert after.private - before.private == pytest.approx(30, abs=3)
    assert after.mapped - before.mapped == pytest.approx(40, abs=3)


def test_a_process_that_ignores_sigterm_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_processes, "_PATIENCE_S", 0.4)
    code = "trap '' TERM; sleep 1000 & while :; do wait; done"
    with ProcessGroup(tmp_path) as group:
        running = group.start("deaf", ["/bin/sh", "-c", code], 1)
        until(lambda: len(bench_processes._with_children(running.process.pid)) == 2)
        pids = bench_processes._with_children(running.process.pid)
    assert running.process.returncode == -signal.SIGKILL
    until(lambda: all(map(is_gone, pids)))


def test_a_process_that_ends_instead_of_answering_is_an_error(tmp_path: Path) -> None:
    with ProcessGroup(tmp_path) as group:
        running = group.start("broken", [sys.executable, "-c", "raise SystemExit('no such thing')"], 1)
        with pytest.raises(LoadtestError, match="broken ended with code 1: no such thing"):
            running.first_answer_s()
