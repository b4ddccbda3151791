"""Opening regular files only: reading a pipe, a socket or a device might never end.

The file is opened without blocking and judged by its descriptor, so nothing can be put in its place between the check
and the read. A disk that hangs can still block the call: whoever must not wait does this in a thread (`limited.py`).
"""

import errno
import os
import stat
from pathlib import Path


def open_regular(path: Path) -> int:
    """A descriptor to read a file from. Raises `OSError` for what cannot be opened and what is no regular file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_regular(path: Path, most_bytes: int) -> bytes:
    """The content of a file. Raises `OSError` as `open_regular`, and for a file longer than `most_bytes`."""
    with os.fdopen(open_regular(path), "rb") as file:
        if os.fstat(file.fileno()).st_size > most_bytes:
            raise OSError(errno.EFBIG, f"longer than {most_bytes} bytes", str(path))
        return file.read(most_bytes)
