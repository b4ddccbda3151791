"""Running processes, as /proc has them."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from loadtest.bench.serving import bench_processes


def environments() -> Iterator[str]:
    """Environments of all processes but this one."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            yield path.read_bytes().decode("utf-8", "replace") if int(path.parent.name) != os.getpid() else ""
        except OSError:
            continue


def workers_below(folder: Path) -> list[str]:
    """Environments of the workers that answer from below a folder."""
    return [text for text in environments() if f"MARQUEE_STREAM_VAR={folder}" in text]


def command_lines(pid: int) -> list[str]:
    """Command lines of a process and its descendants."""
    lines = []
    for child in bench_processes._with_children(pid):
        with suppress(OSError):  # it has ended meanwhile
            lines.append(Path(f"/proc/{child}/cmdline").read_bytes().decode())
    return lines
