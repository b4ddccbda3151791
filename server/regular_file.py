"""Opens regular files only: reading a pipe, a socket or a device might never end.

The file is opened without blocking and checked by its descriptor, so it cannot be replaced between the check and the
read. A hung disk can still block the call; callers that must not wait use a thread (`limited.py`).
"""

import errno
import os
import stat
from pathlib import Path


def open_regular(path: Path) -> int:
    """A descriptor for reading. Raises `OSError` if the file cannot be opened or is not a regular file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_regular(path: Path, most_bytes: int) -> bytes:
    """The content of a file. Raises `OSError` like `open_regular`, and if it is longer than `most_bytes`."""
    with os.fdopen(open_regular(path), "rb") as file:
        if os.fstat(file.fileno()).st_size > most_bytes:
            raise OSError(errno.EFBIG, f"longer than {most_bytes} bytes", str(path))
        return file.read(most_bytes)
