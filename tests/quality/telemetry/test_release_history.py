"""The history of releases: one reader and one writer, files of every age, and damage."""

from pathlib import Path

import numpy as np
import pytest

from quality.errors import ReleaseHistoryError
from quality.telemetry.release_history import (
    ReleaseChange,
    ReleaseHistory,
    append_release_change,
    read_release_changes,
    read_release_history,
)

OLD_LINES = (
    b'{"release":"a","stream_time":100,"wall_time":"2026-02-10T14:00:00+00:00"}\n'
    b'{"release":"b","stream_time":200,"wall_time":"2026-02-11T14:00:00+00:00","by":"pin","later":1}\n'
)
"""The first line is from before `by` was written, the second has a field of a later version."""
OLD_CHANGES = [
    ReleaseChange("a", 100, "2026-02-10T14:00:00+00:00", "night"),
    ReleaseChange("b", 200, "2026-02-11T14:00:00+00:00", "pin"),
]


def test_history_answers_by_the_last_line_at_or_before(tmp_path: Path) -> None:
    # back to a; the stream's time went back, too
    for release, time in [("a", 100), ("b", 200), ("c", 300), ("a", 250)]:
        append_release_change(tmp_path, ReleaseChange(release, time))
    history = read_release_history(tmp_path)
    names = [*history.releases, None]
    numbers = history.in_force(np.array([99, 100, 199, 200, 249, 250, 999]))
    assert [names[number] for number in numbers.tolist()] == [None, "a", "a", "b", "b", "a", "a"]
    since = {time: "".join(sorted(history.releases_since(time))) for time in (0, 100, 199, 200, 249, 250, 999)}
    assert since == {0: "ab", 100: "ab", 199: "ab", 200: "ab", 249: "ab", 250: "a", 999: "a"}
    assert ReleaseHistory([]).in_force(np.array([5])).tolist() == [-1]
    assert ReleaseHistory([]).releases_since(5) == set()
    assert read_release_history(tmp_path / "nowhere").releases == []


@pytest.mark.parametrize(
    "old", [OLD_LINES, OLD_LINES[:-1], OLD_LINES.replace(b"}\n{", b"}\n\n{"), OLD_LINES[:-1] + b"\r\n"]
)
def test_lines_of_every_age_are_read_and_stay_as_they_are(tmp_path: Path, old: bytes) -> None:
    (tmp_path / "history.jsonl").write_bytes(old)
    assert read_release_changes(tmp_path) == OLD_CHANGES
    append_release_change(tmp_path, ReleaseChange("c", 300, "2026-02-12T14:00:00+00:00", "rollback"))
    written = (tmp_path / "history.jsonl").read_bytes()
    assert written.startswith(old)
    added = b'{"release":"c","stream_time":300,"wall_time":"2026-02-12T14:00:00+00:00","by":"rollback"}\n'
    assert written.removeprefix(old).lstrip(b"\n") == added
    assert [change.release for change in read_release_changes(tmp_path)] == ["a", "b", "c"]


@pytest.mark.parametrize("damage", [b"{", b"[]\n", b"{}\n", b"\xff\n", b'{"release":5}\n', b'{"release":"torn'])
def test_damage_is_an_error_that_names_the_line(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "history.jsonl").write_bytes(OLD_LINES + damage)
    with pytest.raises(ReleaseHistoryError, match=r"history\.jsonl, line 3, cannot be read: .*; restore it"):
        read_release_changes(tmp_path)


def test_an_empty_history_is_none(tmp_path: Path) -> None:
    assert read_release_changes(tmp_path) == []
    (tmp_path / "history.jsonl").touch()
    assert read_release_changes(tmp_path) == []
