"""Telemetry and the archive's reports against their reference, in worlds from seeds: see `checks.py`.

pytest-xdist runs a file in one process, so the seeds are in several files. `python -m
tests.quality.telemetry_reference --seeds 10000` takes as many seeds as it is given, and makes a failing world as small
as possible.
"""

from pathlib import Path

import pytest

from tests.quality.telemetry_reference.seeds import require_agreement

pytestmark = pytest.mark.seeds


@pytest.mark.parametrize("first", range(100, 200, 20))
def test_reports_say_what_the_reference_says_however_a_world_is_read(first: int, tmp_path: Path) -> None:
    require_agreement(range(first, first + 20), tmp_path)
