"""The night on a small service's six days: a release that serves, the same again for the same, and what stops it."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

from batch.errors import GateRefusal, NotEnoughData
from batch.gate import list_relevance
from batch.nights.journal import Journal
from batch.nights.runner import STEPS, run_night, run_step
from batch.nights.steps import NightSteps
from batch.releases import build, publish
from batch.settings import BatchSettings
from loadtest.settings import WorldSettings
from quality.catalog import Catalog, Subject
from quality.settings import QualitySettings
from server.answers import SOURCES, Answers
from server.errors import HiddenUnreadable
from server.release import FILES, RENDERED, Release, list_source
from stream.archive import Archive, FateCount, LedgerEntry, TimeRange
from stream.event import Event, Kind
from stream.line_columns import table_of
from stream.settings import StreamSettings

pytestmark = pytest.mark.filterwarnings("ignore:OpenBLAS is configured:RuntimeWarning")

Simulated = Callable[[WorldSettings], AbstractContextManager[str]]
ROOT = Path(__file__).parents[3]
SETTINGS = BatchSettings(api="http://127.0.0.1:1", api_retries=0, factors=8, iterations=4, trees=5, minimum_segment=20)
ALL_BUT_CATALOG = ("sessions", "history", "evaluate", "train", "publish")
"""The API is not there in most of these tests."""
SUBJECTS: tuple[Subject, ...] = ("movie", "user")


def night(var: Path, **changed: Any) -> NightSteps:
    settings = msgspec.structs.replace(SETTINGS, **changed)
    return NightSteps(StreamSettings(var=var, generation="2026"), QualitySettings(), settings)


def run(one: NightSteps, *names: str) -> dict[str, dict[str, Any]]:
    return {name: STEPS[name](one) for name in names or ALL_BUT_CATALOG}


@pytest.fixture
def var(past: Path, tmp_path: Path) -> Path:
    """A copy of the past, to be written to."""
    shutil.copytree(past, tmp_path / "var")
    return tmp_path / "var"


@pytest.fixture(scope="module")
def done(past: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    """A folder after a whole night, and what the steps told."""
    var = tmp_path_factory.mktemp("done") / "var"
    shutil.copytree(past, var)
    return var, run(night(var))


@pytest.fixture
def after(done: tuple[Path, dict[str, dict[str, Any]]], tmp_path: Path) -> Path:
    """A copy of the folder after that night, to be written to."""
    shutil.copytree(done[0], tmp_path / "after", symlinks=True)
    return tmp_path / "after"


def answered(release: Release, user: int) -> tuple[list[str], str]:
    """The movies that a user would be answered, and where they come from."""
    body, source = Answers(release).find(user)
    return body.decode().split(","), SOURCES[source]


def release_names(var: Path) -> set[str]:
    return {path.parent.name for path in (var / "releases").glob("2*/manifest.json")}


def digests(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}


@pytest.mark.blas
def test_a_night_ends_with_a_release_that_serves(done: tuple[Path, dict[str, dict[str, Any]]]) -> None:
    var, told = done
    current = publish.current_release(var)
    assert current is not None
    assert (told["publish"]["release"], told["publish"]["current"]) == (current.name, True)
    assert all(verdict.startswith("passed") for verdict in told["publish"]["gate"].values())
    release = Release.open(current)
    assert len(release.users) == told["history"]["users"] > 200
    assert len(release.movies) == told["history"]["movies"] > 100
    answers = Answers(release)
    sources = [SOURCES[answers.find(user)[1]] for user in release.users.tolist()]
    assert sources == [list_source(release, segment) for segment in release.segments.tolist()]
    movies, source = answered(release, 999_999)
    assert (len(movies), source) == (20, "popular")


def test_the_manifest_says_what_the_release_was_made_of(done: tuple[Path, dict[str, dict[str, Any]]]) -> None:
    var, told = done
    manifest = orjson.loads((var / "releases" / "current" / "manifest.json").read_bytes())
    [entries] = manifest["input"]["offsets"].values()
    lines = sum(entry.lines for entry in Archive(var).entries())
    assert entries == [0, lines - 1]
    assert manifest["input"]["days"] == [f"2030-01-0{day}" for day in range(1, 7)]
    assert manifest["model"]["lists"] == told["evaluate"]["chosen"]
    assert manifest["settings"]["factors"] == 8
    assert set(manifest["files"]) == {*FILES, *RENDERED}


def test_no_list_holds_what_its_user_has_seen(done: tuple[Path, dict[str, dict[str, Any]]]) -> None:
    var, _ = done
    release, seen = Release.open(var / "releases" / "current"), set[tuple[int, str]]()
    for paths in Archive(var).files("watch").values():
        for path in paths:
            table = pq.read_table(path, columns=["user", "movie"])
            seen.update(zip(table.column("user").to_pylist(), table.column("movie").to_pylist(), strict=True))
    answers = Answers(release)
    for user in release.users.tolist():
        movies = answers.find(user)[0].decode().split(",")
        assert len(movies) == 20
        assert not [movie for movie in movies if (user, movie) in seen]


@pytest.mark.blas
def test_the_same_input_makes_the_same_files(done: tuple[Path, dict[str, dict[str, Any]]], var: Path) -> None:
    first, _ = done
    run(night(var))
    assert digests(var / "releases" / "current") == digests(first / "releases" / "current")


def test_the_hash_of_the_input_is_of_what_was_read_and_not_of_when(var: Path) -> None:
    one, ledger = night(var), var / "archive" / "ledger"
    run(one, "sessions")
    before = orjson.loads((var / "night" / "read.json").read_bytes())
    for path in ledger.glob("*.json"):
        entry = {**orjson.loads(path.read_bytes()), "written": "2031-01-01T00:00:00+00:00"}
        path.write_bytes(orjson.dumps(entry))
    run(one, "sessions")
    assert orjson.loads((var / "night" / "read.json").read_bytes()) == before
    add(Archive(var), "live", [Event("account", 1_893_500_000_000, 5)])
    run(one, "sessions")
    assert orjson.loads((var / "night" / "read.json").read_bytes())["hash"] != before["hash"]


def test_a_step_may_be_run_again(var: Path) -> None:
    one = night(var)
    run(one, "sessions", "history", "evaluate", "train")
    before = {path.name: path.read_bytes() for path in (var / "night").iterdir()}
    run(one, "sessions", "history", "evaluate", "train")
    assert {path.name: path.read_bytes() for path in (var / "night").iterdir()} == before


def test_answers_are_there_as_text_where_the_settings_say_so_and_are_the_same(
    done: tuple[Path, dict[str, dict[str, Any]]], after: Path
) -> None:
    first, _ = done
    shutil.rmtree(after / "releases")  # the evaluation was held against none
    run(night(after, answers="compact"), "train", "publish")
    one, two = (Release.open(folder / "releases" / "current") for folder in (after, first))
    assert (set(one.manifest["files"]), set(two.manifest["files"])) == ({*FILES}, {*FILES, *RENDERED})
    assert digests(after / "releases" / "current") == digests(first / "releases" / "current")
    compact, text = Answers(one), Answers(two)
    for user in [*one.users.tolist(), 0, 999_999]:
        assert compact.find(user) == text.find(user)


def test_answers_are_rendered_by_default_where_that_is_small(after: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = [after / "releases" / "current" / name for name in RENDERED]
    held = sum(path.stat().st_size for path in rendered)
    header = 128  # of the .npy file
    monkeypatch.setattr(build, "RENDERED_BYTES", held - header)
    run(night(after), "train")
    assert not [name for name in RENDERED if (after / "night" / name).exists()]
    monkeypatch.setattr(build, "RENDERED_BYTES", held - header + 1)
    run(night(after), "train")
    assert all((after / "night" / name).exists() for name in RENDERED)


def test_texts_of_an_earlier_night_are_in_no_compact_release(after: Path) -> None:
    run(night(after, answers="rendered"), "train")
    assert all((after / "night" / name).exists() for name in RENDERED)
    shutil.rmtree(after / "releases")  # the evaluation was held against none
    run(night(after, answers="compact"), "train", "publish")
    assert set(Release.open(after / "releases" / "current").manifest["files"]) == set(FILES)
    assert not [name for name in RENDERED if (after / "night" / name).exists()]


def test_popular_lists_hold_more_than_are_shown(done: tuple[Path, dict[str, dict[str, Any]]]) -> None:
    var, _ = done
    release = Release.open(var / "releases" / "current")
    hidden = frozenset(release.movies[item] for item in release.fallbacks[0, :60].tolist())
    assert len(answered(release, 999_999)[0]) == 20
    assert len(Answers(release, hidden).find(999_999)[0].split(b",")) == 20


@pytest.mark.blas
def test_another_seed_makes_another_index(done: tuple[Path, dict[str, dict[str, Any]]], after: Path) -> None:
    first, _ = done
    shutil.rmtree(after / "releases")  # the evaluation was held against none
    run(night(after, seed=2), "train", "publish")
    one, two = (digests(folder / "releases" / "current") for folder in (first, after))
    assert one["items.ann"] != two["items.ann"]
    assert one["users.npy"] == two["users.npy"]


@pytest.mark.parametrize("model", ["als", "popular"])
def test_a_pinned_model_makes_the_lists(var: Path, model: str) -> None:
    told = run(night(var, model=model))
    assert (told["evaluate"]["chosen"], told["train"]["model"]) == (model, model)


def test_the_night_asks_the_service_for_what_it_does_not_know(simulated: Simulated, past: Path, tmp_path: Path) -> None:
    shutil.copytree(past / "archive", tmp_path / "archive")
    run(night(tmp_path), "sessions")
    with simulated(WorldSettings(users=300, movies=200, generation="2026", api_rate_limit_per_s=10_000)) as root:
        told = night(tmp_path, api=root).catalog()
        assert night(tmp_path, api=root).catalog() == {"movies": {}, "users": {}}
    assert set(told) == {"movies", "users"}
    assert set(told["movies"]) == set(told["users"]) == {"known"}
    for subject in SUBJECTS:
        all_of_them, asked = Catalog(past).records(subject), Catalog(tmp_path).records(subject)
        assert asked
        assert asked == {name: all_of_them[name] for name in asked}


def test_an_api_that_is_down_does_not_stop_the_night(var: Path) -> None:
    stranger = Event("watch", 1_893_500_000_000, 7, "never+heard+of+1999", minute=3)
    add(Archive(var), "live", [stranger])
    run(night(var), "sessions")
    told = night(var).catalog()
    assert "no answer" in told["failed"]
    assert run(night(var))["history"]["unknown_movie"] == 1


def add(archive: Archive, topic: str, events: list[Event]) -> None:
    """One batch of events of one day (in UTC it is not looked at) in the archive."""
    kinds: dict[Kind, list[Event]] = {}
    for event in events:
        kinds.setdefault(event.kind, []).append(event)
    counts = [FateCount("accepted", kind, "2030-01-01", None, len(own)) for kind, own in kinds.items()]
    times = [event.time for event in events]
    entry = LedgerEntry(
        topic=topic, partition=0, first=0, last=len(events) - 1, lines=len(events), counts=counts,
        kafka_time=TimeRange(min(times), max(times)),
    )  # fmt: skip
    files = [archive.write_events(entry, kind, "2030-01-01", table_of(kind, own)) for kind, own in kinds.items()]
    archive.commit(entry.with_files(files))


def test_a_user_who_only_opened_an_account_is_answered_from_a_popular_list(var: Path) -> None:
    add(Archive(var), "live", [Event("account", 1_893_500_000_000, 999)])
    run(night(var))
    release = Release.open(var / "releases" / "current")
    assert 999 in release.users
    assert answered(release, 999)[1] == "popular"


def test_a_release_that_the_gate_refuses_stays_beside_and_current_where_it_is(after: Path) -> None:
    run(night(after, answers="compact"), "train")
    before = publish.current_release(after)
    lists = np.load(after / "night" / "lists.npy")
    lists[:] = lists[0]
    np.save(after / "night" / "lists.npy", lists)
    with pytest.raises(GateRefusal, match="lists_are_fresh"):
        night(after, answers="compact").publish()
    assert publish.current_release(after) == before
    assert len(publish.read_publications(after)) == 1
    assert len(release_names(after)) == 2


def test_old_releases_are_removed_after_a_night(after: Path) -> None:
    made = list(release_names(after))
    for seed in (2, 3):
        told = run(night(after, seed=seed, keep_releases=2), "evaluate", "train", "publish")
        made.append(told["publish"]["release"])
    # nights as short as these may end within one second, and then their names do not tell which came last
    assert release_names(after) == {*sorted(made)[-2:], made[-1]}
    assert len(publish.read_publications(after)) == 3


def run_alone(var: Path, *names: str) -> None:
    settings = msgspec.structs.replace(SETTINGS, model="popular")
    for name in names:
        run_step(name, StreamSettings(var=var, generation="2026"), QualitySettings(), settings)


@pytest.mark.parametrize(
    ("before", "step", "missing"),
    [
        ((), "catalog", "sessions"),
        ((), "publish", "sessions"),
        (("sessions",), "history", "catalog"),
        (("sessions", "catalog", "history"), "train", "evaluate"),
        (("sessions", "catalog", "history", "evaluate"), "publish", "train"),
        (("sessions", "catalog", "history", "evaluate", "train", "history"), "train", "evaluate"),
        (("sessions", "catalog", "history", "evaluate", "train", "sessions"), "publish", "catalog"),
    ],
)
def test_a_step_alone_is_run_only_on_what_the_steps_before_it_made(
    var: Path, before: tuple[str, ...], step: str, missing: str
) -> None:
    run_alone(var, *before)
    with pytest.raises(NotEnoughData, match=f"{step}: {missing} is to be done before it.*-m batch {missing}"):
        run_alone(var, step)
    assert publish.current_release(var) is None


def test_all_steps_alone_make_a_release(var: Path) -> None:
    run_alone(var, *STEPS)
    assert publish.current_release(var) is not None


def test_a_refused_night_is_over_told_of_and_leaves_current_as_it_is(var: Path) -> None:
    arguments = StreamSettings(var=var, generation="2026"), QualitySettings()
    settings = msgspec.structs.replace(SETTINGS, model="popular")
    first = run_night(*arguments, settings, despite_alerts=False)
    ledger = next((var / "archive" / "ledger").glob("*.json"))
    ledger.write_bytes(ledger.read_bytes().replace(b'"lines": ', b'"lines": 1'))  # the sum is wrong now
    with pytest.raises(GateRefusal, match="ledger_balances"):
        run_night(*arguments, settings, despite_alerts=False)
    current = publish.current_release(var)
    assert current is not None
    assert current.name == first["release"]
    assert len(publish.refused_releases(var)) == 1
    assert "night_refused" in (var / "alerts.jsonl").read_text()
    assert Journal(var / "night").night is None  # the next one begins anew


@pytest.mark.blas
def test_hidden_movies_are_in_no_list(done: tuple[Path, dict[str, dict[str, Any]]], var: Path) -> None:
    release = Release.open(done[0] / "releases" / "current")
    hidden = {release.movies[item] for item in [*release.fallbacks[0, :5].tolist(), *release.lists[0, :5].tolist()]}
    (var / "hidden.txt").write_text("\n".join(hidden))
    run(night(var))
    release = Release.open(var / "releases" / "current")
    shown = {release.movies[item] for item in np.unique(release.lists).tolist() if item < len(release.movies)}
    shown |= {release.movies[item] for item in np.unique(release.fallbacks).tolist() if item < len(release.movies)}
    assert len(shown) > 50
    assert not shown & hidden


def test_what_is_hidden_and_cannot_be_read_stops_the_night_with_one_error(var: Path) -> None:
    (var / "hidden.txt").mkdir()
    with pytest.raises(
        HiddenUnreadable, match=r"hidden\.txt cannot be read: not a regular file; mend it, or remove it"
    ):
        run(night(var))
    assert not (var / "releases").exists()
    (var / "hidden.txt").rmdir()
    assert run(night(var))["publish"]["current"]


def test_the_night_forgives_what_a_worker_forgives(done: tuple[Path, dict[str, dict[str, Any]]], var: Path) -> None:
    movie = Release.open(done[0] / "releases" / "current").movies[0]
    (var / "hidden.txt").write_bytes(f'"{movie.upper().replace("+", "%2B")}",\r\n'.encode("utf-16"))
    run(night(var), *list(ALL_BUT_CATALOG)[:2])
    assert orjson.loads((var / "night" / "input.json").read_bytes())["hidden"] == [movie]


def test_a_night_learns_from_no_more_days_than_it_is_told_to(var: Path) -> None:
    run(night(var, history_days=2))
    manifest = orjson.loads((var / "releases" / "current" / "manifest.json").read_bytes())
    assert manifest["input"]["days"] == ["2030-01-05", "2030-01-06"]


def test_a_pinned_release_stays_and_the_new_one_is_ready(after: Path) -> None:
    [first] = release_names(after)
    publish.pin(after, first, 0)
    told = run(night(after, seed=2))["publish"]
    assert (told["current"], told["release"] == first) == (False, False)
    assert publish.sealed(after) == sorted([first, told["release"]])
    current = publish.current_release(after)
    assert current is not None
    assert current.name == first


def test_an_archive_that_is_empty_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(NotEnoughData, match="collect"):
        run(night(tmp_path), "sessions", "history")


def test_a_catalogue_that_is_empty_says_what_to_run(var: Path) -> None:
    shutil.rmtree(var / "catalog")
    with pytest.raises(NotEnoughData, match="catalog"):
        run(night(var), "sessions", "history")


def test_an_archive_without_a_known_movie_says_so(tmp_path: Path) -> None:
    add(Archive(tmp_path), "live", [Event("watch", 1_893_500_000_000, 7, "never+heard+of+1999", minute=3)])
    Catalog(tmp_path).keep("movie", [("aliens+1986", "known", {"id": "aliens+1986"}, "")])
    with pytest.raises(NotEnoughData):
        run(night(tmp_path))


def test_the_first_minutes_of_a_service_make_a_release(tmp_path: Path) -> None:
    names = [f"movie+{number}+1999" for number in range(25)]
    Catalog(tmp_path).keep("movie", [(name, "known", {"id": name}, "") for name in names])
    events = [Event("watch", 1_893_500_000_000, user, names[user % 25], minute=0) for user in range(1, 30)]
    add(Archive(tmp_path), "live", events)
    assert run(night(tmp_path))["evaluate"]["chosen"] == "popular"
    release = Release.open(tmp_path / "releases" / "current")
    movies, source = answered(release, 7)
    assert (len(movies), source) == (20, "popular")


def test_more_movies_than_16_bits_number_make_a_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_relevance, "ROWS", 100)  # of so many movies the gate compares each with all others
    count = 65_536
    names = [f"movie+{number}+1999" for number in range(count)]
    Catalog(tmp_path).keep("movie", [(name, "known", {"id": name}, "") for name in names])
    users = 1 + np.random.default_rng(1).integers(0, 20, count)
    starts = 1_893_500_000_000 + 1000 * np.random.default_rng(2).permutation(count)
    rows = zip(starts.tolist(), users.tolist(), names, strict=True)
    add(Archive(tmp_path), "live", [Event("watch", at, user, name, minute=0) for at, user, name in rows])
    run(night(tmp_path, factors=2, iterations=1, trees=1, model="als"))
    release = Release.open(tmp_path / "releases" / "current")
    assert (len(release.movies), release.lists.dtype) == (count, np.dtype(np.uint32))
    assert len(answered(release, 1)[0]) == 20


DOORS = [
    (["evaluate"], 1),
    (["publish"], 1),
    (["history"], 1),
    (["schedule", "--at", "25:99"], 2),
    (["nightly", "--seed", "-5"], 2),
]


@pytest.mark.parametrize(("arguments", "code"), DOORS)
def test_an_error_at_the_door_is_one_line(tmp_path: Path, arguments: list[str], code: int) -> None:
    environ = {**os.environ, "MARQUEE_STREAM_VAR": str(tmp_path / "var")}
    command = [sys.executable, "-m", "batch", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=600, check=False)
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].lower().startswith("error: ")
    assert (done.returncode, done.stdout) == (code, "")
