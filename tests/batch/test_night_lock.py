"""The lock of nights and of moves of releases."""

from pathlib import Path

import pytest

from batch.errors import NightBusy
from batch.lock import holding


def test_the_lock_is_held_once(tmp_path: Path) -> None:
    with holding(tmp_path), pytest.raises(NightBusy, match="another night"):
        holding(tmp_path)
    with holding(tmp_path):
        pass
