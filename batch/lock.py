"""The lock of one `var` folder: one night at a time, and no night while releases are moved or removed.

The system releases it when its process ends, in whatever way; it never has to be removed by hand.
"""

from contextlib import AbstractContextManager
from pathlib import Path

import filelock

from batch.errors import NightBusy


def holding(var: Path) -> AbstractContextManager[object]:
    """Hold the lock for the block, without waiting for it. Raises `NightBusy` if another process holds it."""
    folder = var / "night"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return filelock.FileLock(folder / "night.lock", blocking=False).acquire()
    except filelock.Timeout as error:
        raise NightBusy(
            f"night: another night runs in {folder}, or releases are being moved; wait for it, or stop it"
        ) from error
