"""`var/hidden.txt`: the movies that no answer may name, one a line; `#` begins a remark.

Workers leave them out of whatever they answer, and the night makes its lists without them.
"""

import errno
import stat
from pathlib import Path

HIDDEN = "hidden.txt"
_LONGEST = 16 << 20
"""Bytes; a catalogue of a hundred thousand movies has four million."""


def read(path: Path) -> frozenset[str]:
    """The movies that a file names, none where there is no file.

    Raises `OSError` for what cannot be read, and for what is no file: reading a pipe might never end.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no file")
        if status.st_size > _LONGEST:
            raise OSError(errno.EFBIG, f"it is longer than {_LONGEST} bytes")
        text = path.read_text("utf-8-sig", errors="replace")
    except FileNotFoundError:
        return frozenset()
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return frozenset(line for line in lines if line)
