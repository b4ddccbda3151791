"""The lock of one `var` folder: one night at a time, and no night while somebody moves or removes releases.

The system lets it go with the process that holds it, however that ends, so there is nothing to clear away by hand.
"""

from contextlib import AbstractContextManager
from pathlib import Path

import filelock

from batch.errors import NightBusy


def holding(var: Path) -> AbstractContextManager[object]:
    """Take the lock, at once, for the block. Raises `NightBusy` where another process has it."""
    folder = var / "night"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return filelock.FileLock(folder / "night.lock", blocking=False).acquire()
    except filelock.Timeout as error:
        raise NightBusy(
            f"night: another night runs in {folder}, or releases are moved; wait for it, or stop it"
        ) from error
