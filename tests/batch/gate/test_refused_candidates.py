"""The gate: each bad candidate is refused by the rule made for it, and by no other."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from batch.gate.candidate import Candidate
from batch.gate.rules import RULES
from batch.releases import rendered
from server.release import Release, sha256
from stream.zone import DAY_MS
from tests.batch.gate.candidate_evaluations import NOW
from tests.batch.gate.candidates import after, build_parts, models, passed, refused, save_index, sealed
from tests.batch.gate.planted_faults import ALERT, PLANTED, SOUND, on_test, planted
from tests.batch.gate.planted_next_faults import numbered

pytestmark = [pytest.mark.blas, pytest.mark.usefixtures("no_worker")]


@pytest.mark.parametrize("name", PLANTED)
def test_a_bad_candidate_is_refused_by_its_rule_and_no_other_and_would_pass_without_it(
    tmp_path: Path, current: Release, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule, candidate = name.partition(":")[0], sealed(tmp_path, planted(name, current))
    assert list(refused(candidate)) == [rule]
    if rule != "files_verify":  # without which there is nothing to judge
        monkeypatch.setattr("batch.gate.rules.RULES", tuple(other for other in RULES if other.__name__ != rule))
        assert rule not in passed(candidate).results


def test_every_rule_has_a_candidate_that_only_it_refuses() -> None:
    assert {name.partition(":")[0] for name in PLANTED} | {"a_worker_answers"} == {rule.__name__ for rule in RULES}


# Files


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    return sealed(tmp_path_factory.mktemp("good"), build_parts())


@pytest.fixture(scope="session")
def with_texts(tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    parts = build_parts()
    parts.text = True
    return sealed(tmp_path_factory.mktemp("texts"), parts)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    """Change a byte near the end: in a manifest, which nothing else checks, it is of the digest of `minors.npy`."""
    data = bytearray(path.read_bytes())
    data[-50] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink])
@pytest.mark.parametrize(
    "name", ["lists.npy", "baseline.npy", "minors.npy", "items.ann", "evaluation.json", "manifest.json"]
)
def test_damaged_files_are_refused(good: Candidate, tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    folder = tmp_path / good.folder.name
    shutil.copytree(good.folder, folder)
    damage(folder / name)
    rule = {"baseline.npy": "baseline_is_popular", "minors.npy": "lists_keep_to_caps"}.get(name, "files_verify")
    if name == "manifest.json" and damage is flip:
        rule = "lists_keep_to_caps"
    assert list(refused(replace(good, folder=folder))) == [rule]


def resealed(candidate: Candidate, folder: Path, change: Callable[[Path], object]) -> Candidate:
    """A copy with other files, and a manifest that is right about them."""
    shutil.copytree(candidate.folder, folder)
    change(folder)
    manifest = orjson.loads((folder / "manifest.json").read_bytes())
    for name in manifest["files"]:
        manifest["files"][name] = {"size": (folder / name).stat().st_size, "sha256": sha256(folder / name)}
    put(folder / "manifest.json", orjson.dumps(manifest))
    return replace(candidate, folder=folder)


def put(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def swapped(first_name: str, second_name: str) -> Callable[[Path], None]:
    def swap(folder: Path) -> None:
        first, second = (folder / first_name).read_bytes(), (folder / second_name).read_bytes()
        put(folder / first_name, second)
        put(folder / second_name, first)

    return swap


def other_index(folder: Path) -> None:
    """Two movies have changed places, neither of which a worker looks at when it tests itself."""
    items = np.load(folder / "items.npy")
    short = np.argsort(np.linalg.norm(items, axis=1))[:2]
    items[short] = items[short[::-1]]
    (folder / "items.ann").unlink()
    save_index(items, folder / "items.ann")


def other_texts(folder: Path) -> None:
    """Answers of another release, each as long as what it should be."""
    names = (folder / "movies.txt").read_text().splitlines()
    rendered.write(folder, np.load(folder / "lists.npy")[:, ::-1], names, 65_535)


RESEALED: dict[str, Callable[[Path], object]] = {
    "lists and popular lists": swapped("lists.npy", "fallbacks.npy"),
    "users and segments": swapped("users.npy", "segments.npy"),
    "embeddings and index": swapped("items.npy", "items.ann"),
    "movies and evaluation": swapped("movies.txt", "evaluation.json"),
    "texts and where they begin": swapped("answers.bin", "answers.npy"),
    "an index of other movies": other_index,
    "texts of another release": other_texts,
}


@pytest.mark.parametrize("name", RESEALED)
def test_files_that_are_promised_but_of_something_else_are_refused(
    with_texts: Candidate, tmp_path: Path, name: str
) -> None:
    spoilt = resealed(with_texts, tmp_path / with_texts.folder.name, RESEALED[name])
    assert list(refused(spoilt)) == ["files_verify"]


def test_a_release_under_the_name_of_another_is_refused(with_texts: Candidate, tmp_path: Path) -> None:
    broken = refused(resealed(with_texts, tmp_path / "20300101T000000Z-00000000", lambda folder: None))
    assert broken == {"files_verify": f"the manifest of 20300101T000000Z-00000000 names {with_texts.folder.name}"}


def test_if_files_do_not_verify_no_other_rule_is_judged(good: Candidate, tmp_path: Path) -> None:
    assert list(refused(replace(good, folder=tmp_path / "none"))) == ["files_verify"]


@pytest.mark.parametrize("key", ["slices", "chosen", "against_popular", "against_current"])
@pytest.mark.parametrize("value", [None, 3, [], "x"])
def test_wrong_data_are_always_a_refusal_and_no_other_error(
    tmp_path: Path, current: Release, key: str, value: object
) -> None:
    parts = after(build_parts(), current)
    parts.evaluation[key] = value
    assert refused(sealed(tmp_path, parts))


def test_a_release_without_facts_is_refused_by_the_rules_that_need_them(good: Candidate, tmp_path: Path) -> None:
    parts = build_parts()
    parts.facts.clear()
    broken = refused(candidate := sealed(tmp_path, parts))
    assert set(broken) == {"ledger_balances", "input_is_recent", "release_is_of_its_input"}
    release = candidate.folder.name
    assert broken["input_is_recent"] == (
        f"cannot be judged: BadRelease('{release}: manifest.json has no input with a stream_time')"
    )


def test_a_refusal_names_the_fault_of_the_ledger_and_the_alerts(tmp_path: Path) -> None:
    parts = build_parts()
    parts.facts["offsets"]["movielog2-0"] = [0, 9]
    parts.alerts = [ALERT, ALERT, ALERT]
    assert refused(sealed(tmp_path, parts)) == {
        "ledger_balances": "the input was made of movielog2-0 0 to 9, which the ledger does not hold",
        "alerts_allow": "quarantined:1 (too many) and 2 more",
    }


def test_all_problems_of_an_evaluation_are_named(tmp_path: Path) -> None:
    parts = build_parts()
    on_test(mrr={"mean": float("nan"), "low": 0.1, "high": 0.2}, coverage=2)(parts)
    parts.evaluation["slices"]["test"]["from_ms"] = NOW
    models(parts, "choice").pop("popular")
    assert refused(sealed(tmp_path, parts)) == {
        SOUND: "the slices are not one after the other; popular was not measured; mrr of als on the test slice;"
        " coverage of als on the test slice"
    }


def test_all_broken_rules_are_named_at_once(tmp_path: Path, current: Release) -> None:
    parts = after(build_parts(), numbered(current, users=900))
    parts.evaluation["against_popular"]["high"] = -0.01
    parts.catalog_movies.clear()
    broken = refused(sealed(tmp_path, parts))
    assert list(broken) == ["counts_hold", "movies_are_known", "not_below_popular"]
    assert broken["counts_hold"] == "400 users, the current release has 900"


def test_faults_of_lists_and_of_popular_lists_are_counted_together(tmp_path: Path) -> None:
    parts = build_parts()
    parts.lists, parts.fallbacks = parts.made_lists(), parts.made_fallbacks()
    parts.lists[5], parts.fallbacks[1] = -1, -1
    parts.hidden = {parts.movies[parts.fallbacks[0, 99]]}
    offered = int((parts.lists == parts.fallbacks[0, 99]).sum())
    parts.facts["stream_time"] = NOW - 3 * DAY_MS
    broken = refused(sealed(tmp_path, parts))
    assert broken["lists_are_full"] == "2 lists are not as long as they could be"
    reserve = int((parts.fallbacks == parts.fallbacks[0, 99]).sum())
    assert broken["lists_are_fresh"].endswith(f"{offered + reserve} are hidden")
    assert broken["input_is_recent"] == "the input ends 72 h behind the stream"
