"""Provenance: every answer can be traced to its release, its list and its data; and differences are named."""

import datetime as dt
import shutil
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import orjson
import pyarrow as pa
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.errors import ProvenanceError
from batch.releases import publish
from batch.releases.provenance import LoggedRequest, command, infer_hidden, iso_time, text, time_of, trace_answer
from quality.telemetry.release_history import (
    ReleaseChange,
    ReleaseHistory,
    append_release_change,
    read_release_history,
)
from server.answers import SOURCES, Answers
from server.manifest import Exploring, InputFacts, Manifest, ReleaseModel
from server.release import Release
from stream import durable
from stream.archive import Archive
from stream.event import Event
from stream.ledger_entry import TimeRange
from stream.line_columns import table_of
from stream.tables import ARCHIVE_SCHEMAS
from stream.zone import HOUR_MS, zone_named
from tests.ledger_entries import entry

WriteCandidate = Callable[..., Path]
CLOCK = zone_named("America/New_York")
NOON = 1_770_742_800_000  # 2026-02-10T12:00 in New York
MADE_OF = Manifest(
    stream_time=NOON - 60_000,
    input=InputFacts(stream_time=NOON - 60_000, days=["2026-02-09"], hash="abc", offsets={"log-0": [0, 9]}),
    settings={"seed": 7},
    model=ReleaseModel(lists="ease", parameters={"decay": 0.5}),
    segments=["everyone", *(f"segment {number}" for number in range(1, 13))],
)


@pytest.fixture(scope="module")
def releases_var(tmp_path_factory: pytest.TempPathFactory, write_candidate: WriteCandidate) -> Path:
    """The releases a and b, current from noon and from an hour later.

    Users 1, 2 and 5 have no list: 1 no segment, 2 one with a popular list, 5 one without.
    """
    var = tmp_path_factory.mktemp("releases") / "var"
    for number, name in enumerate("ab"):
        candidate = write_candidate(var / f"night-{name}", seed=number)
        lists, segments = np.load(candidate / "lists.npy"), np.load(candidate / "segments.npy")
        lists[[0, 1, 4]], segments[1:3], segments[4] = 65_535, 4, 5
        np.save(candidate / "users.npy", np.array([*range(1, 150), 500], np.uint32))
        fallbacks = np.tile(np.random.default_rng(number).permutation(60).astype(np.uint16)[:40], (13, 1))
        fallbacks[4], fallbacks[5] = fallbacks[4][::-1], 65_535
        for file, array in (("lists", lists), ("segments", segments), ("fallbacks", fallbacks)):
            np.save(candidate / f"{file}.npy", array)
        published = publish.publish(var, candidate, MADE_OF)
        folder = (var / "releases" / published).rename(var / "releases" / name)
        durable.write_json(
            folder / "manifest.json", orjson.loads((folder / "manifest.json").read_bytes()) | {"id": name}
        )
        publish.make_current(var, name, NOON + number * HOUR_MS)
        Release.open(folder)
    return var


@pytest.fixture
def var(releases_var: Path, tmp_path: Path) -> Path:
    return shutil.copytree(releases_var, tmp_path / "var", symlinks=True)


def log(var: Path, *events: Event) -> None:
    """Put lines of requests into the archive, each in a batch of its own."""
    archive = Archive(var)
    for event in events:
        first = archive.positions("log").get(0, 0)
        batch = entry(first, first, topic="log", lines=0, counts=[], kafka_time=TimeRange(event.time, event.time))
        table = table_of("recommend", [event])
        for name, value in (("topic", "log"), ("partition", 0), ("offset", first), ("kafka_time", event.time)):
            table = table.append_column(name, pa.array([value]).cast(ARCHIVE_SCHEMAS["recommend"].field(name).type))
        file = archive.write_events(batch, "recommend", CLOCK.day(event.time), table)
        archive.commit(batch.with_files([file]))


def answered(var: Path, release: str, user: int, hidden: frozenset[str] = frozenset()) -> tuple[list[str], str]:
    """What a worker answers a user from a release."""
    answers = Answers(Release.open(var / "releases" / release), hidden)
    body, source = answers.find(user)
    return body.decode().split(","), SOURCES[source]


def request(user: int, time: int, movies: list[str]) -> Event:
    return Event("recommend", time, user, host="h:1", status=200, movies=tuple(movies), latency_ms=3)


def logged_request(var: Path, user: int, at_ms: int) -> LoggedRequest:
    logged = trace_answer(var, user, at_ms, CLOCK).logged
    assert logged is not None
    return logged


ASKED = [
    (1, "popular", True), (2, "segment", True), (3, "personal", True),
    (5, "popular", True), (300, "popular", False), (999, "popular", False), (2**40, "popular", False),
]  # fmt: skip


@pytest.mark.parametrize(("user", "source", "known"), ASKED)
def test_the_trace_gives_the_answer_of_a_worker_and_its_source(var: Path, user: int, source: str, known: bool) -> None:
    for release, at_ms in (("a", NOON), ("a", NOON + HOUR_MS - 1), ("b", NOON + HOUR_MS), ("b", NOON + 9 * HOUR_MS)):
        trace = trace_answer(var, user, at_ms, CLOCK)
        assert (trace.release, trace.damaged, trace.files_kept) == (release, [], True)
        answer = trace.answer
        assert answer is not None
        assert (answer.movies, answer.source) == answered(var, release, user)
        assert (answer.source, answer.is_user_known) == (source, known)
        assert trace.made_of["model"] == msgspec.to_builtins(MADE_OF.model)
        assert trace.made_of["settings"] == {"seed": 7}
        assert trace.made_of["input"]["hash"] == "abc"
        assert trace.logged is None
    assert trace.in_force_since == "2026-02-10T13:00:00-05:00"
    assert trace_answer(var, user, NOON, CLOCK).in_force_until == trace.in_force_since


@pytest.mark.parametrize("model", ["popular", "segment"])
def test_a_list_of_a_popular_model_is_not_called_personal(var: Path, model: str) -> None:
    manifest = var / "releases" / "a" / "manifest.json"
    durable.write_json(manifest, orjson.loads(manifest.read_bytes()) | {"model": {"lists": model}})
    sources = set()
    for user in (1, 2, 3, 4, 5, 500):
        answer = trace_answer(var, user, NOON, CLOCK).answer
        assert answer is not None
        assert (answer.movies, answer.source) == answered(var, "a", user)
        sources.add(answer.source)
    assert "personal" not in sources


def test_the_trace_says_how_a_list_was_drawn(var: Path, write_candidate: WriteCandidate) -> None:
    candidate = write_candidate(var / "drawn")
    np.save(candidate / "explorers.npy", np.array([2, 7], np.uint32))
    np.save(candidate / "propensities.npy", np.full((2, 20), 20 / 47, np.float32))
    made_of = msgspec.structs.replace(MADE_OF, exploring=Exploring(share=0.02, users=2))
    release = publish.publish(var, candidate, made_of)
    publish.make_current(var, release, NOON + 5 * HOUR_MS)
    for user, is_drawn in ((3, True), (4, False), (8, True), (999, False)):
        trace = trace_answer(var, user, NOON + 6 * HOUR_MS, CLOCK)
        answer = trace.answer
        assert answer is not None
        assert (answer.movies, answer.source) == answered(var, release, user)
        assert (answer.source == "exploring") == is_drawn == (answer.drawn is not None)
        printed = "exploring (drawn by lot from 47 movies, each with the chance 0.426; 2.0% of the users explore): "
        assert (printed in text(trace)) == is_drawn
        if answer.drawn:
            assert (answer.drawn.pool, answer.drawn.share, len(answer.drawn.chances)) == (47, 0.02, 20)
            assert set(answer.drawn.chances) == {float(np.float32(20 / 47))}


@pytest.mark.parametrize(("user", "segment"), [(2, "segment 4"), (3, "segment 4"), (5, "everyone"), (999, "everyone")])
def test_the_trace_names_the_segment_whose_list_is_shown(var: Path, user: int, segment: str) -> None:
    answer = trace_answer(var, user, NOON, CLOCK).answer
    assert answer is not None
    assert answer.segment == segment


def test_the_printed_trace_names_the_segment_whose_list_is_shown(var: Path) -> None:
    assert "segment (segment 4): " in text(trace_answer(var, 2, NOON, CLOCK))


def test_a_segment_missing_in_the_manifest_is_named_by_its_number(var: Path) -> None:
    manifest = var / "releases" / "a" / "manifest.json"
    durable.write_json(manifest, orjson.loads(manifest.read_bytes()) | {"segments": ["everyone"]})
    answer = trace_answer(var, 2, NOON, CLOCK).answer
    assert answer is not None
    assert answer.segment == 4


def test_before_the_first_release_none_was_in_force(var: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ProvenanceError, match=r"no release was in force at 2026-02-10T11:59:59.999-05:00; the first one"
    ):
        trace_answer(var, 3, NOON - 1, CLOCK)
    with pytest.raises(ProvenanceError, match="there has been none"):
        trace_answer(tmp_path / "nowhere", 3, NOON, CLOCK)


def test_a_logged_answer_is_compared_with_the_release(var: Path) -> None:
    movies, _ = answered(var, "a", 3)
    log(
        var,
        request(3, NOON + 10_000, movies),
        request(4, NOON + 10_100, movies[::-1]),
        request(3, NOON + 14_000, movies[::-1]),
        Event("recommend", NOON + 30_000, 3, host="h:1", status=503, latency_ms=9, error="no release"),
    )
    logged = logged_request(var, 3, NOON + 11_000)
    assert (logged.at_ms, logged.is_of, logged.if_hidden) == (NOON + 10_000, "a", [])
    assert (logged.topic, logged.partition, logged.offset, logged.latency_ms) == ("log", 0, 0, 3)
    assert logged_request(var, 3, NOON + 13_000).is_of is None
    assert logged_request(var, 4, NOON + 13_000).is_of is None
    assert trace_answer(var, 3, NOON + 19_001, CLOCK).logged is None
    assert trace_answer(var, 5, NOON + 10_000, CLOCK).logged is None
    failed = logged_request(var, 3, NOON + 30_000)
    assert (failed.status, failed.is_of) == (503, None)
    assert "status 503, no release" in text(trace_answer(var, 3, NOON + 30_000, CLOCK))


def test_near_a_change_the_answer_may_come_from_the_adjacent_release(var: Path) -> None:
    change = NOON + HOUR_MS
    log(var, request(3, change + 2000, answered(var, "a", 3)[0]), request(4, change - 2000, answered(var, "b", 4)[0]))
    assert logged_request(var, 3, change + 2000).is_of == "a"
    assert logged_request(var, 4, change - 2000).is_of == "b"
    assert "this very list, but of a, next to it in time" in text(trace_answer(var, 3, change + 2000, CLOCK))


def test_a_request_near_midnight_is_found_in_the_file_of_the_other_day(var: Path) -> None:
    midnight = NOON + 12 * HOUR_MS
    log(var, request(3, midnight - 1000, answered(var, "b", 3)[0]))
    assert logged_request(var, 3, midnight + 1000).is_of == "b"


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 4), st.sets(st.integers(0, 59), max_size=30), st.booleans())
def test_hidden_movies_explain_a_different_answer(
    releases_var: Path, user: int, numbers: set[int], short: bool
) -> None:
    release = Release.open(releases_var / "releases" / "a")
    hidden = frozenset(release.movies[number] for number in numbers)
    movies = answered(releases_var, "a", user, hidden)[0]
    shown, reserve = in_order(releases_var, user)
    explained = infer_hidden(movies, shown, reserve)
    assert explained is not None
    assert set(explained) <= hidden
    assert [movie for movie in [*shown, *reserve] if movie not in explained][:20] == movies
    assert infer_hidden(movies[::-1], shown, reserve) is None
    assert infer_hidden([*movies[:-1], "other+2000"], shown, reserve) is None


def test_a_list_is_only_filled_up_where_one_of_its_own_movies_is_hidden() -> None:
    assert infer_hidden(["b", "c", "e"], ["a", "b"], ["c", "d", "e"]) == ["a", "d"]
    assert infer_hidden(["a", "b"], ["a", "b"], ["c", "d", "e"]) == []
    assert infer_hidden(["a", "b", "c", "e"], ["a", "b"], ["c", "d", "e"]) is None
    assert infer_hidden(["a", "b", "a"], ["a", "b"], []) is None
    assert infer_hidden([], ["a", "b"], []) is None


def in_order(var: Path, user: int) -> tuple[list[str], list[str]]:
    """What a release shows a user, and what would follow: the segment's list, without what is there already."""
    release = Release.open(var / "releases" / "a")
    shown = answered(var, "a", user)[0]
    segment = int(release.segments[user - 1])
    return shown, [name for name in (release.movies[item] for item in release.fallbacks[segment]) if name not in shown]


def test_a_list_without_a_hidden_movie_names_it(var: Path) -> None:
    hidden_movie = answered(var, "a", 3)[0][4]
    log(var, request(3, NOON, answered(var, "a", 3, frozenset([hidden_movie]))[0]))
    logged = logged_request(var, 3, NOON)
    assert (logged.is_of, logged.if_hidden) == ("a", [hidden_movie])
    assert f"this very list without the movies hidden then ({hidden_movie})" in text(trace_answer(var, 3, NOON, CLOCK))


def test_the_manifest_of_a_removed_release_is_kept(var: Path) -> None:
    log(var, request(3, NOON, answered(var, "a", 3)[0]))
    append_release_change(var / "releases", ReleaseChange("b", NOON + 73 * HOUR_MS))
    assert publish.prune(var, 1) == ["a"]
    trace = trace_answer(var, 3, NOON, CLOCK)
    assert (trace.release, trace.files_kept, trace.answer) == ("a", False, None)
    assert trace.made_of["model"] == msgspec.to_builtins(MADE_OF.model)
    logged = logged_request(var, 3, NOON)
    assert (logged.status, logged.is_of) == (200, None)
    assert "removed since" in text(trace)
    assert trace.made_of["files"]["lists.npy"]["sha256"] in text(trace)
    (var / "releases" / "manifests" / "a.json").unlink()
    with pytest.raises(ProvenanceError, match="a was in force then, but its files and its manifest are gone"):
        trace_answer(var, 3, NOON, CLOCK)


def test_damaged_and_missing_files_are_named(var: Path) -> None:
    path = var / "releases" / "a" / "users.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    path.write_bytes(content)
    (var / "releases" / "a" / "segments.npy").unlink()
    trace = trace_answer(var, 3, NOON, CLOCK)
    assert trace.damaged == ["users.npy", "segments.npy"]
    assert trace.answer is None
    assert "DAMAGED, not what was published: users.npy, segments.npy" in text(trace)


def test_a_damaged_manifest_is_one_clear_error(var: Path) -> None:
    for content in (
        b"{",
        b"[]",
        b"{}",
        b'{"files": 3}',
        b'{"files": {"users.npy": 5}}',
        b'{"files": {}, "stream_time": "z"}',
    ):
        path = var / "releases" / "a" / "manifest.json"
        path.unlink()
        path.write_bytes(content)
        with pytest.raises(ProvenanceError, match=r"manifest.json cannot be read"):
            trace_answer(var, 3, NOON, CLOCK)


def test_a_damaged_archive_file_is_one_clear_error(var: Path) -> None:
    log(var, request(3, NOON + 10_000, answered(var, "a", 3)[0]))
    for path in (var / "archive" / "recommend").rglob("*.parquet"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ProvenanceError, match="the archive cannot be read"):
        trace_answer(var, 3, NOON + 11_000, CLOCK)


ZONES = ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"]


@settings(deadline=None)
@given(st.sampled_from(ZONES), st.integers(946_684_800_000 + 86_400_000, 4_102_444_799_999 - 86_400_000))
def test_times_are_parsed_as_they_are_printed(name: str, at_ms: int) -> None:
    clock, moment = zone_named(name), dt.datetime.fromtimestamp(at_ms // 1000, ZoneInfo(name))
    moment = moment.replace(microsecond=at_ms % 1000 * 1000)
    assert dt.datetime.fromisoformat(iso_time(at_ms, clock)) == moment
    assert time_of(iso_time(at_ms, clock), clock) == at_ms
    assert time_of(str(at_ms), clock) == at_ms
    assert time_of(moment.astimezone(dt.UTC).isoformat().replace("+00:00", "Z"), clock) == at_ms
    bare = moment.replace(tzinfo=None, fold=0)
    assert time_of(bare.isoformat(" "), clock) == round(bare.replace(tzinfo=ZoneInfo(name)).timestamp() * 1000)


@pytest.mark.parametrize(
    "text_of_time", ["", "noon", "2026-13-01", "12", "-5", "1e12", "99999999999999", "1999-12-31", "９" * 13]
)
def test_an_invalid_time_is_refused(text_of_time: str) -> None:
    with pytest.raises(ValueError):
        time_of(text_of_time, CLOCK)


def test_the_command_prints_text_or_json(var: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARQUEE_STREAM_VAR", str(var))
    monkeypatch.setenv("MARQUEE_STREAM_TIMEZONE", "America/New_York")
    arguments = ["--user", "3", "--at", "2026-02-10T12:30"]
    output = CliRunner().invoke(command, arguments).output
    for line in (
        "user 3          at 2026-02-10T12:30:00-05:00",
        "release         a, made current by night at 2026-02-10T12",
    ):
        assert line in output
    assert "data until      2026-02-10T11:59:00-05:00" in output
    assert "verified just now: all are what was published" in output
    assert 'model           lists "ease", parameters {"decay":0.5}' in output
    assert "no request of this user within 5 s is in the archive" in output
    document = orjson.loads(CliRunner().invoke(command, [*arguments, "--json"]).output)
    assert document == msgspec.to_builtins(trace_answer(var, 3, NOON + HOUR_MS // 2, CLOCK))
    for wrong in (
        ["--user", "-1", "--at", "2026-02-10"],
        ["--user", "3", "--at", "noon"],
        ["--user", "x", "--at", "9"],
    ):
        assert CliRunner().invoke(command, wrong).exit_code == 2
    output = CliRunner().invoke(command, ["--user", "3", "--at", "1770742800"]).output
    assert "'1770742800' is no time" in output
    assert "or ms since 1970" in output


def test_the_changes_around_a_time() -> None:
    changes = [ReleaseChange("a", 10), ReleaseChange("b", 20), ReleaseChange("a", 30)]
    history = ReleaseHistory(changes)
    for time_ms, expected in ((9, "--a"), (10, "a-b"), (19, "a-b"), (20, "baa"), (30, "ab-"), (99, "ab-")):
        around = [change.release if change else "-" for change in history.around(time_ms)]
        assert "".join(around) == expected, time_ms
    assert ReleaseHistory([]).around(5) == (None, None, None)


def test_older_history_lines_without_by_count_as_moves_of_a_night(tmp_path: Path) -> None:
    lines = b'{"release":"a","stream_time":1,"wall_time":""}\n{"release":"b","stream_time":2,"by":"rollback","new":1}\n'
    (tmp_path / "history.jsonl").write_bytes(lines)
    moved = [change.by for change in read_release_history(tmp_path).around(1) if change]
    assert moved == ["night", "rollback"]
