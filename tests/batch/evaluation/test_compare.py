"""Comparing releases: what differs is named, and what ranks better later is what the naive definition says."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson
import pytest
from click.testing import CliRunner

from batch.errors import ReleaseError
from batch.evaluation.compare import compare, compare_releases, list_overlap, open_release, started_later
from batch.evaluation.compare_report import sentences
from batch.evaluation.comparison import ListOverlap, ReadDays, ReleaseComparison
from batch.evaluation_file import (
    LEAST_USERS,
    AgainstCurrent,
    Evaluation,
    MeasuredSlices,
    ModelFigures,
    ScoreDifference,
    SliceFigures,
    write_evaluation,
)
from batch.history.day_store import DaySource, DayStore, day_table
from batch.releases import publish
from quality.metrics.intervals import Interval
from server.errors import BadRelease
from server.manifest import InputCounts, InputFacts, Manifest, ReleaseModel
from server.release import Explored, Release
from stream.zone import DAY_MS, HOUR_MS, day_number, zone_named

pytestmark = pytest.mark.blas

CLOCK = zone_named("America/New_York")
GAP_MS = 6 * HOUR_MS
NOW = day_number("2030-03-10") * DAY_MS + 9 * HOUR_MS
"""Within the 10th of March there; the stream time of the newer release."""
Make = Callable[..., Release]


@pytest.fixture
def make(tmp_path: Path, write_candidate: Callable[..., Path]) -> Make:
    """`make(name, stream_time, settings, edit)`: a published release of its own; `edit(folder)` changes its files."""

    def made(
        name: str, stream_time: int = NOW, edit: Callable[[Path], object] = lambda folder: None, **changed: Any
    ) -> Release:
        folder = write_candidate(tmp_path / name, users=changed.pop("users", 100), seed=changed.pop("seed", 1))
        edit(folder)
        made_of = Manifest(
            stream_time=stream_time,
            input=InputFacts(
                stream_time=stream_time,
                days=["2030-03-01", "2030-03-09"],
                offsets={"movielog1-0": [0, 1_000_000]},
                counts=InputCounts(sessions=5000),
            ),
            settings={"factors": 64, "seed": 1, **changed},
            model=ReleaseModel(lists="als", parameters={"items": 10.0}, chosen_by="ndcg@20 on the choice slice"),
        )
        return Release.open(tmp_path / "releases" / publish.publish(tmp_path, folder, made_of))

    return made


def put_evaluation(folder: Path, mean: float = 0.2, from_ms: int = 5) -> None:
    interval = Interval(mean, mean - 0.01, mean + 0.01)
    figures = ModelFigures(
        users=7, hit_rate=interval, recall=interval, ndcg=interval, mrr=interval, coverage=0.5, novelty_bits=3.0,
        personal=0.9, segments={}, largest_gap=None,
    )  # fmt: skip
    evaluation = Evaluation(
        chosen="als",
        chosen_by="settings",
        parameters={},
        slices=MeasuredSlices(test=SliceFigures(from_ms, from_ms + 1, {"als": figures})),
        against_popular=ScoreDifference("ndcg@20", interval.mean, interval.low, interval.high),
        against_current=AgainstCurrent(reason="nothing"),
    )
    write_evaluation(folder, evaluation)


def put(
    day_store: DayStore, day: str, starts: list[tuple[int, str, int]], requests: Sequence[tuple[int, int]] = ()
) -> None:
    """Keep a day of sessions (user, movie, start) of an hour, and requests (user, time)."""
    starts = sorted(starts)
    times = [time for *_, time in starts]
    sessions = day_table(
        "sessions",
        {
            "user": [user for user, *_ in starts],
            "movie": [movie for _, movie, _ in starts],
            "start": times,
            "last": [time + HOUR_MS for time in times],
            "minutes": [60] * len(starts),
        },
    )
    asked = day_table("requests", {"user": [row[0] for row in requests], "time": [row[1] for row in requests]})
    day_store.write(day, DaySource(), {"sessions": sessions, "requests": asked})


def listed(release: Release, user: int) -> list[str]:
    """What a user is shown, worked out naively."""
    none = np.iinfo(release.lists.dtype).max
    own: list[int] = []
    if user in release.users.tolist():
        own = [movie for movie in release.lists[release.users.tolist().index(user)].tolist() if movie != none]
    own = own or [movie for movie in release.fallbacks[0].tolist()[:20] if movie != none]
    return [release.movies[movie] for movie in own]


def ndcg(shown: list[str], began: set[str]) -> float:
    gain = sum(1 / np.log2(place + 2) for place, movie in enumerate(shown) if movie in began)
    return float(gain / sum(1 / np.log2(place + 2) for place in range(min(20, len(began)))))


def reason(pair: tuple[Release, Release], day_store: DayStore) -> str:
    """Why nothing can be said of what was started later."""
    return str(started_later(pair, day_store, CLOCK, GAP_MS).reason)


def test_what_ranks_better_later_is_what_the_naive_definition_says(make: Make, tmp_path: Path) -> None:
    first, second = make("one", seed=1, stream_time=NOW - DAY_MS), make("other", seed=2)
    rng = np.random.default_rng(1)
    day_store, began = DayStore(tmp_path), {}
    starts: list[tuple[int, str, int]] = []
    for user in [*range(1, 91), 500, 501]:
        movies = rng.choice(60, 4, replace=False)
        starts += [(user, f"movie+{movies[0]}+2000", NOW - 2 * HOUR_MS), (user, f"movie+{movies[1]}+2000", NOW)]
        own = [f"movie+{movie}+2000" for movie in movies[2:]]
        began[user] = set(own)
        starts += [(user, movie, NOW + 1 + int(rng.integers(20 * HOUR_MS))) for movie in own]
    asked = [(3, NOW + 5), (4, NOW - 5), (5, NOW + 23 * HOUR_MS)]
    for day in ("2030-03-10", "2030-03-11"):
        on = [row for row in starts if CLOCK.day(row[2]) == day]
        put(day_store, day, on, [row for row in asked if CLOCK.day(row[1]) == day])
    later = started_later((first, second), day_store, CLOCK, GAP_MS)
    counted = [user for user in began if user not in (3, 5)]
    scores = [[ndcg(listed(release, user), began[user]) for user in counted] for release in (first, second)]
    assert (later.users, later.since_ms, later.reason) == (len(counted), NOW, None)
    assert later.mean is not None
    assert later.low is not None
    assert later.high is not None
    assert later.mean == pytest.approx(np.mean(np.subtract(scores[1], scores[0])))
    assert later.low < later.mean < later.high
    assert later.means == pytest.approx((np.mean(scores[0]), np.mean(scores[1])))
    backwards = started_later((second, first), day_store, CLOCK, GAP_MS)
    assert backwards.mean == pytest.approx(-later.mean)


def test_a_release_that_lists_what_is_watched_later_ranks_better(make: Make, tmp_path: Path) -> None:
    first, second = make("one", seed=1), make("other", seed=2)
    starts = [(user, listed(second, user)[0], NOW + HOUR_MS) for user in range(1, 81)]
    put(DayStore(tmp_path), "2030-03-10", starts)
    later = started_later((first, second), DayStore(tmp_path), CLOCK, GAP_MS)
    assert later.means is not None
    assert later.means[1] == 1.0
    assert later.low is not None
    assert later.low > 0


def test_users_whose_lists_either_release_drew_by_lot_are_left_out(make: Make, tmp_path: Path) -> None:
    pair = tuple(
        replace(make(name, seed=seed), explored=Explored(np.array([seed], np.uint32), np.zeros((1, 20), np.float32)))
        for seed, name in enumerate(("one", "other"), 1)
    )
    put(DayStore(tmp_path), "2030-03-10", [(user, pair[0].movies[0], NOW + HOUR_MS) for user in range(1, 81)])
    assert started_later((pair[0], pair[1]), DayStore(tmp_path), CLOCK, GAP_MS).users == 78


def test_a_session_that_had_begun_before_is_no_later_start(make: Make, tmp_path: Path) -> None:
    since = CLOCK.bounds("2030-03-11")[0] - HOUR_MS  # an hour before midnight
    pair = make("one", seed=1, stream_time=since), make("other", seed=2, stream_time=since)
    day_store, midnight = DayStore(tmp_path), since + HOUR_MS
    put(day_store, "2030-03-10", [(user, "movie+7+2000", since - HOUR_MS) for user in range(1, 81)])
    put(day_store, "2030-03-11", [(user, "movie+7+2000", midnight + 60_000) for user in range(1, 81)])
    assert "0 users" in reason(pair, day_store)
    put(day_store, "2030-03-10", [])
    assert started_later(pair, day_store, CLOCK, GAP_MS).users == 80


def test_a_session_that_had_begun_on_the_day_before_is_no_later_start(make: Make, tmp_path: Path) -> None:
    midnight = CLOCK.bounds("2030-03-11")[0]
    since = midnight + HOUR_MS
    pair = make("one", seed=1, stream_time=since), make("other", seed=2, stream_time=since)
    day_store = DayStore(tmp_path)
    put(day_store, "2030-03-10", [(user, "movie+7+2000", midnight - 2 * HOUR_MS) for user in range(1, 81)])
    put(day_store, "2030-03-11", [(user, "movie+7+2000", midnight + 3 * HOUR_MS) for user in range(1, 81)])
    assert "0 users" in reason(pair, day_store)


def test_without_later_sessions_the_result_is_a_reason(make: Make, tmp_path: Path) -> None:
    pair = make("one", seed=1), make("other", seed=2)
    assert "0 users" in reason(pair, DayStore(tmp_path))
    few = [(user, "movie+7+2000", NOW + HOUR_MS) for user in range(1, LEAST_USERS)]
    put(DayStore(tmp_path), "2030-03-10", few)
    assert f"{LEAST_USERS - 1} users" in reason(pair, DayStore(tmp_path))
    put(DayStore(tmp_path), "2030-03-10", [(user, "unknown+2000", NOW + HOUR_MS) for user in range(1, 99)])
    assert "0 users" in reason(pair, DayStore(tmp_path))


def test_the_overlap_of_lists_is_that_of_sets(make: Make) -> None:
    def edit(folder: Path) -> None:
        rows = np.load(folder / "lists.npy")
        rows[:40] = np.load(folder.parent / "one" / "lists.npy")[:40]  # unchanged
        rows[40:50] = rows[40:50, ::-1]
        rows[50, 5:] = 65535
        np.save(folder / "lists.npy", rows)
        np.save(folder / "users.npy", np.r_[1:91, 1001:1011].astype(np.uint32))
        names = (folder / "movies.txt").read_text().replace("movie+59+", "movie+new+")
        (folder / "movies.txt").write_text(names)

    first, second = make("one", seed=1), make("other", seed=2, edit=edit)
    overlap = list_overlap((first, second))
    pairs = [(listed(first, user), listed(second, user)) for user in range(1, 91)]
    assert overlap.users == 90
    assert overlap.overlap == pytest.approx(np.mean([len({*a} & {*b}) / max(len(a), len(b)) for a, b in pairs]))
    assert overlap.unchanged == pytest.approx(np.mean([a == b for a, b in pairs]))
    assert sum(a == b for a, b in pairs) > 18
    change = {
        movie: sum(movie in b for _, b in pairs) - sum(movie in a for a, _ in pairs)
        for movie in {*first.movies, *second.movies}
    }
    assert next(iter(overlap.gained)) == "movie+new+2000"
    assert next(iter(overlap.lost)) == "movie+59+2000"
    for moved, sign in ((overlap.gained, 1), (overlap.lost, -1)):
        assert all(change[movie] == number and number * sign > 0 for movie, number in moved.items())
        assert [abs(number) for number in moved.values()] == sorted(
            (abs(number) for number in change.values() if number * sign > 0), reverse=True
        )[:10]


def test_a_release_overlaps_itself_completely(make: Make) -> None:
    release = make("one")
    assert list_overlap((release, release)) == ListOverlap(users=100, overlap=1.0, unchanged=1.0, gained={}, lost={})


def test_releases_without_a_common_user_have_no_overlap(make: Make) -> None:
    second = make("other", edit=lambda f: np.save(f / "users.npy", np.arange(1001, 1101, dtype=np.uint32)))
    assert list_overlap((make("one"), second)).overlap is None


def test_what_they_were_made_of_stands_side_by_side(make: Make, tmp_path: Path) -> None:
    first = make("one", NOW - DAY_MS, put_evaluation, factors=32)
    second = make("other", NOW, lambda folder: put_evaluation(folder, 0.3), seed=2, extra=5)
    sides = open_release(tmp_path, first.id), open_release(tmp_path, second.id)
    comparison = compare_releases(*sides, DayStore(tmp_path), CLOCK, GAP_MS)
    assert comparison.releases == (first.id, second.id)
    assert list(comparison.settings.items()) == [("extra", (None, 5)), ("factors", (32, 64))]
    assert comparison.versions == {}
    assert [side.model for side in comparison.made] == ["als", "als"]
    assert comparison.made[0].days == ReadDays(count=2, first="2030-03-01", last="2030-03-09")
    counts = {"sessions": 5000, "users": 100, "movies": 60, "ratings": 0, "unknown_movie": 0}
    assert comparison.made[0].counts == counts
    assert [side.ndcg and side.ndcg.mean for side in comparison.figures] == [0.2, 0.3]
    assert comparison.same_hours is True
    assert msgspec.convert(json.loads(orjson.dumps(msgspec.to_builtins(comparison))), ReleaseComparison) == comparison


def test_figures_of_different_hours_cannot_be_compared(make: Make, tmp_path: Path) -> None:
    first = make("one", edit=put_evaluation)
    second = make("other", edit=lambda folder: put_evaluation(folder, 0.3, from_ms=6), seed=2)
    sides = open_release(tmp_path, first.id), open_release(tmp_path, second.id)
    comparison = compare_releases(*sides, DayStore(tmp_path), CLOCK, GAP_MS)
    assert comparison.same_hours is False
    assert any("different hours" in sentence for sentence in sentences(comparison, CLOCK))


def test_a_release_is_found_by_id_by_folder_and_as_the_current_one(make: Make, tmp_path: Path) -> None:
    first, second = make("one"), make("other", seed=2)
    publish.make_current(tmp_path, second.id, NOW)
    assert open_release(tmp_path, "current").release.id == second.id
    assert open_release(tmp_path, first.id).release.id == first.id
    assert open_release(tmp_path / "elsewhere", str(tmp_path / "releases" / first.id)).release.id == first.id
    for name in ("none", "current", "../one"):
        with pytest.raises(ReleaseError, match="there is no release"):
            open_release(tmp_path / "elsewhere", name)
    (tmp_path / "releases" / first.id / "users.npy").write_bytes(b"")
    with pytest.raises(BadRelease, match=r"users\.npy"):
        open_release(tmp_path, first.id)


def test_the_command_prints_a_table_or_json(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARQUEE_STREAM_VAR", str(tmp_path))
    first, second = make("one", factors=32), make("other", seed=2, edit=put_evaluation)
    put(DayStore(tmp_path), "2030-03-10", [(user, listed(second, user)[0], NOW + HOUR_MS) for user in range(1, 81)])
    printed = CliRunner().invoke(compare, [first.id, second.id], catch_exceptions=False).stdout
    for text in (first.id, second.id, "settings: factors", "0.2000 [0.1900, 0.2100]", "the second ranks better"):
        assert text in printed
    as_json = CliRunner().invoke(compare, ["--json", first.id, second.id]).stdout
    assert msgspec.json.decode(as_json)["later"]["users"] == 80
    publish.make_current(tmp_path, first.id, NOW)
    again = CliRunner().invoke(compare, ["current", "current"], catch_exceptions=False).stdout
    assert "100.0% of the lists unchanged" in again
    assert "no difference beyond noise" in again
