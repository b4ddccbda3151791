"""CPU time of a whole process, from its start to its end."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from loadtest.demo.processes import ROOT
from loadtest.errors import LoadtestError

_TIMEOUT_S = 600.0
_LOOK_S = 0.05


def process_cpu_s(
    name: str,
    command: Sequence[str],
    environ: Mapping[str, str],
    log_file: Path,
    is_done: Callable[[], bool] = lambda: False,
) -> float:
    """CPU seconds of a process that ends by itself, or by SIGTERM once `is_done`. Its output goes to a file.

    Raises `LoadtestError` if it fails or takes too long.
    """
    with log_file.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=output, stderr=output)
    deadline, asked = time.monotonic() + _TIMEOUT_S, False
    try:
        while time.monotonic() < deadline:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                if process.returncode:
                    raise LoadtestError(f"bench: {name} ended with code {process.returncode}: {_last_line(log_file)}")
                return usage.ru_utime + usage.ru_stime
            if not asked and is_done():
                process.send_signal(signal.SIGTERM)
                asked = True
            time.sleep(_LOOK_S)
        raise LoadtestError(f"bench: {name} did not end within {_TIMEOUT_S:.0f} s: {_last_line(log_file)}")
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()


def _last_line(log_file: Path) -> str:
    lines = log_file.read_text("utf-8", "replace").strip().split("\n")
    return lines[-1] or "no output"
