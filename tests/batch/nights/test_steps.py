"""The steps of the night on a small service's six days: the release that they make, and the same again for the same."""

import shutil
from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

from batch.errors import GateRefusal
from batch.releases import build, publish
from server.answers import SOURCES, Answers
from server.errors import HiddenUnreadable
from server.release import BASELINE, FILES, MINORS, RENDERED, Release, list_source
from stream.archive import Archive
from stream.event import Event
from tests.batch.nights.small_nights import ALL_BUT_CATALOG, Results, answer_of, archive_events, digests, night, run

pytestmark = pytest.mark.filterwarnings("ignore:OpenBLAS is configured:RuntimeWarning")


@pytest.fixture(scope="module")
def done(past: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Results]:
    """A folder after a whole night, and the results of its steps."""
    var = tmp_path_factory.mktemp("done") / "var"
    shutil.copytree(past, var)
    return var, run(night(var))


@pytest.fixture
def after(done: tuple[Path, Results], tmp_path: Path) -> Path:
    """A copy of the folder after that night, to be written to."""
    shutil.copytree(done[0], tmp_path / "after", symlinks=True)
    return tmp_path / "after"


def release_names(var: Path) -> set[str]:
    return {path.parent.name for path in (var / "releases").glob("2*/manifest.json")}


@pytest.mark.blas
def test_a_night_ends_with_a_release_that_serves(done: tuple[Path, Results]) -> None:
    var, results = done
    current = publish.current_release(var)
    assert current is not None
    assert (results["publish"].release, results["publish"].current) == (current.name, True)
    assert all(verdict.startswith("passed") for verdict in results["publish"].gate.values())
    release = Release.open(current)
    assert len(release.users) == results["history"].users > 200
    assert len(release.movies) == results["history"].movies > 100
    answers = Answers(release)
    sources = [SOURCES[answers.find(user)[1]] for user in release.users.tolist()]
    assert sources == [list_source(release, segment) for segment in release.segments.tolist()]
    movies, source = answer_of(release, 999_999)
    assert (len(movies), source) == (20, "popular")


def test_the_manifest_records_the_input_of_the_release(done: tuple[Path, Results]) -> None:
    var, results = done
    manifest = orjson.loads((var / "releases" / "current" / "manifest.json").read_bytes())
    [entries] = manifest["input"]["offsets"].values()
    lines = sum(entry.lines for entry in Archive(var).entries())
    assert entries == [0, lines - 1]
    assert manifest["input"]["days"] == [f"2030-01-0{day}" for day in range(1, 7)]
    assert manifest["model"]["lists"] == results["evaluate"].chosen
    assert manifest["settings"]["factors"] == 8
    assert set(manifest["files"]) == {*FILES, BASELINE, MINORS, *RENDERED}


def test_no_list_holds_a_movie_its_user_has_seen_and_the_baseline_is_the_popular_list_without_it(
    done: tuple[Path, Results],
) -> None:
    var, _ = done
    release, seen = Release.open(var / "releases" / "current"), set[tuple[int, str]]()
    for paths in Archive(var).files("watch").values():
        for path in paths:
            table = pq.read_table(path, columns=["user", "movie"])
            seen.update(zip(table.column("user").to_pylist(), table.column("movie").to_pylist(), strict=True))
    answers, baseline = Answers(release), np.load(release.folder / BASELINE)
    popular = [release.movies[item] for item in release.fallbacks[0].tolist()]
    for user, items in zip(release.users.tolist(), baseline.tolist(), strict=True):
        movies = answers.find(user)[0].decode().split(",")
        assert len(movies) == 20
        assert not [movie for movie in movies if (user, movie) in seen]
        unseen = [movie for movie in popular if (user, movie) not in seen]
        assert [release.movies[item] for item in items] == unseen[:20]


@pytest.mark.blas
def test_the_same_input_makes_the_same_files(done: tuple[Path, Results], var: Path) -> None:
    first, _ = done
    run(night(var))
    assert digests(var / "releases" / "current") == digests(first / "releases" / "current")


def test_the_input_hash_depends_on_the_data_and_not_on_the_time(var: Path) -> None:
    steps, ledger = night(var), var / "archive" / "ledger"
    run(steps, "sessions")
    before = orjson.loads((var / "night" / "read.json").read_bytes())
    for path in ledger.glob("*.json"):
        entry = {**orjson.loads(path.read_bytes()), "written": "2031-01-01T00:00:00+00:00"}
        path.write_bytes(orjson.dumps(entry))
    run(steps, "sessions")
    assert orjson.loads((var / "night" / "read.json").read_bytes()) == before
    archive_events(Archive(var), "live", [Event("account", 1_893_500_000_000, 5)])
    run(steps, "sessions")
    assert orjson.loads((var / "night" / "read.json").read_bytes())["hash"] != before["hash"]


def test_a_step_may_be_run_again(var: Path) -> None:
    steps = night(var)
    run(steps, "sessions", "history", "evaluate", "train")
    before = {path.name: path.read_bytes() for path in (var / "night").iterdir()}
    run(steps, "sessions", "history", "evaluate", "train")
    assert {path.name: path.read_bytes() for path in (var / "night").iterdir()} == before


def test_rendered_answers_are_written_if_set_and_equal_the_lists(done: tuple[Path, Results], after: Path) -> None:
    first, _ = done
    shutil.rmtree(after / "releases")  # the evaluation was held against none
    run(night(after, answers="compact"), "train", "publish")
    compact_release, rendered_release = (Release.open(folder / "releases" / "current") for folder in (after, first))
    assert (set(compact_release.manifest.files), set(rendered_release.manifest.files)) == (
        {*FILES, BASELINE, MINORS},
        {*FILES, BASELINE, MINORS, *RENDERED},
    )
    assert digests(after / "releases" / "current") == digests(first / "releases" / "current")
    compact, text = Answers(compact_release), Answers(rendered_release)
    for user in [*compact_release.users.tolist(), 0, 999_999]:
        assert compact.find(user) == text.find(user)


def test_small_answers_are_rendered_by_default(after: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = [after / "releases" / "current" / name for name in RENDERED]
    held = sum(path.stat().st_size for path in rendered)
    header = 128  # of the .npy file
    monkeypatch.setattr(build, "RENDERED_BYTES", held - header)
    run(night(after), "train")
    assert not [name for name in RENDERED if (after / "night" / name).exists()]
    monkeypatch.setattr(build, "RENDERED_BYTES", held - header + 1)
    run(night(after), "train")
    assert all((after / "night" / name).exists() for name in RENDERED)


def test_a_compact_release_holds_no_rendered_answers_of_an_earlier_night(after: Path) -> None:
    run(night(after, answers="rendered"), "train")
    assert all((after / "night" / name).exists() for name in RENDERED)
    shutil.rmtree(after / "releases")  # the evaluation was held against none
    run(night(after, answers="compact"), "train", "publish")
    assert set(Release.open(after / "releases" / "current").manifest.files) == {*FILES, BASELINE, MINORS}
    assert not [name for name in RENDERED if (after / "night" / name).exists()]


def test_popular_lists_hold_more_movies_than_are_shown(done: tuple[Path, Results]) -> None:
    var, _ = done
    release = Release.open(var / "releases" / "current")
    hidden = frozenset(release.movies[item] for item in release.fallbacks[0, :60].tolist())
    assert len(answer_of(release, 999_999)[0]) == 20
    assert len(Answers(release, hidden).find(999_999)[0].split(b",")) == 20


@pytest.mark.blas
def test_another_seed_makes_another_index(done: tuple[Path, Results], after: Path) -> None:
    first, _ = done
    shutil.rmtree(after / "releases")  # the evaluation was held against none
    run(night(after, seed=2), "train", "publish")
    before, after_seed = (digests(folder / "releases" / "current") for folder in (first, after))
    assert before["items.ann"] != after_seed["items.ann"]
    assert before["users.npy"] == after_seed["users.npy"]


@pytest.mark.parametrize("model", ["als", "popular"])
def test_a_pinned_model_makes_the_lists_and_the_baseline_is_what_the_popular_model_shows(var: Path, model: str) -> None:
    # with a cap, the popular model shows adult movies to users of age; the baseline is everyone's list
    results = run(night(var, model=model, adult_share_minors=1.0))
    assert (results["evaluate"].chosen, results["train"].model) == (model, model)
    release = Release.open(var / "releases" / "current")
    baseline = np.load(release.folder / BASELINE)
    has_history = release.lists[:, 0] != np.iinfo(release.lists.dtype).max
    assert np.array_equal(baseline[has_history], release.lists[has_history]) == (model == "popular")
    assert (baseline[~has_history] == release.fallbacks[0, :20]).all()


def test_a_refused_release_is_kept_and_current_does_not_move(after: Path) -> None:
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
    releases = list(release_names(after))
    for seed in (2, 3):
        results = run(night(after, seed=seed, keep_releases=2), "evaluate", "train", "publish")
        releases.append(results["publish"].release)
    # nights as short as these may end within one second, and then their names do not tell which came last
    assert release_names(after) == {*sorted(releases)[-2:], releases[-1]}
    assert len(publish.read_publications(after)) == 3


@pytest.mark.blas
def test_hidden_movies_are_in_no_list(done: tuple[Path, Results], var: Path) -> None:
    release = Release.open(done[0] / "releases" / "current")
    hidden = {release.movies[item] for item in [*release.fallbacks[0, :5].tolist(), *release.lists[0, :5].tolist()]}
    (var / "hidden.txt").write_text("\n".join(hidden))
    run(night(var))
    release = Release.open(var / "releases" / "current")
    shown = {release.movies[item] for item in np.unique(release.lists).tolist() if item < len(release.movies)}
    shown |= {release.movies[item] for item in np.unique(release.fallbacks).tolist() if item < len(release.movies)}
    shown |= {release.movies[item] for item in np.unique(np.load(release.folder / BASELINE)).tolist()}
    assert len(shown) > 50
    assert not shown & hidden


def test_an_unreadable_hidden_file_stops_the_night_with_one_error(var: Path) -> None:
    (var / "hidden.txt").mkdir()
    with pytest.raises(
        HiddenUnreadable, match=r"hidden\.txt cannot be read: not a regular file; mend it, or remove it"
    ):
        run(night(var))
    assert not (var / "releases").exists()
    (var / "hidden.txt").rmdir()
    assert run(night(var))["publish"].current


def test_the_night_tolerates_the_same_hidden_file_as_a_worker(done: tuple[Path, Results], var: Path) -> None:
    movie = Release.open(done[0] / "releases" / "current").movies[0]
    (var / "hidden.txt").write_bytes(f'"{movie.upper().replace("+", "%2B")}",\r\n'.encode("utf-16"))
    run(night(var), *list(ALL_BUT_CATALOG)[:2])
    assert orjson.loads((var / "night" / "input.json").read_bytes())["hidden"] == [movie]


def test_a_night_learns_from_at_most_the_days_in_the_settings(var: Path) -> None:
    run(night(var, history_days=2))
    manifest = orjson.loads((var / "releases" / "current" / "manifest.json").read_bytes())
    assert manifest["input"]["days"] == ["2030-01-05", "2030-01-06"]


def test_a_pinned_release_stays_and_the_new_one_is_ready(after: Path) -> None:
    [first] = release_names(after)
    publish.pin(after, first, 0)
    results = run(night(after, seed=2))["publish"]
    assert (results.current, results.release == first) == (False, False)
    assert publish.sealed(after) == sorted([first, results.release])
    current = publish.current_release(after)
    assert current is not None
    assert current.name == first


def test_publish_run_again_never_refuses_the_current_release(after: Path) -> None:
    current = publish.current_release(after)
    assert current is not None
    ledger = next((after / "archive" / "ledger").glob("*.json"))
    ledger.write_bytes(ledger.read_bytes().replace(b'"lines": ', b'"lines": 1'))  # the sum is wrong now
    results = night(after).publish()
    assert (results.release, results.current) == (current.name, True)
    assert results.gate["ledger_balances"].startswith("broken: ")
    assert publish.refused_releases(after) == {}
    assert not (after / "alerts.jsonl").exists()


def test_a_rollback_between_evaluate_and_publish_costs_no_night(after: Path) -> None:
    [first] = release_names(after)
    second = run(night(after, seed=2), "evaluate", "train", "publish")["publish"].release
    run(night(after, seed=3), "evaluate", "train")
    against_second = orjson.loads((after / "night" / "evaluation.json").read_bytes())["against_current"]
    assert against_second["release"] == second
    publish.make_current(after, first, 0, "rollback")
    results = night(after, seed=3).publish()
    assert results.current
    evaluation = orjson.loads((after / "releases" / "current" / "evaluation.json").read_bytes())
    assert evaluation["against_current"]["release"] == first
    assert night(after, seed=3).publish().release == results.release  # which needs no other comparison
