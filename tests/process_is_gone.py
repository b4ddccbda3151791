"""Whether a process has ended."""

from pathlib import Path


def is_gone(pid: int) -> bool:
    """Whether a process has ended; also if it is a zombie, which stays one if its parent does not wait for it."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
