"""Whether a process is gone."""

from pathlib import Path


def is_gone(pid: int) -> bool:
    """Whether a process has ended; whose parent is gone as well, nobody may ever wait for."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
