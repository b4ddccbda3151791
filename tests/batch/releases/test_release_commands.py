"""Releases moved by hand: what goes back to what, what is refused, and what the commands say, as processes."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click
import orjson
import pytest

from batch.errors import ReleaseError
from batch.evaluation_file import write_evaluation
from batch.releases import publish
from batch.releases import release_commands as releases
from quality.telemetry.release_history import ReleaseChange, append_release_change
from server.manifest import Manifest, ReleaseModel
from server.release import FILES
from stream import cli, durable
from stream.archive import Archive
from stream.ledger_entry import TimeRange
from stream.zone import DAY_MS, zone_named
from tests.batch.releases.sample_evaluation import AHEAD, EVALUATION, NDCG, POPULAR_NDCG
from tests.ledger_entries import entry

WriteCandidate = Callable[..., Path]
NOON = 1_770_742_800_000  # 2026-02-10T12:00 in New York
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def module_var(tmp_path_factory: pytest.TempPathFactory, write_candidate: WriteCandidate) -> Path:
    """A folder with an archive up to noon, and the releases a, b and c, each current an hour after the other."""
    folder = tmp_path_factory.mktemp("made")
    var = folder / "var"
    Archive(var).commit(entry(0, 0, topic="log", kafka_time=TimeRange(NOON, NOON)))
    for number, name in enumerate("abc"):
        candidate = write_candidate(folder / name, users=50 + number, seed=number)
        write_evaluation(candidate, EVALUATION)
        published = publish.publish(
            var,
            candidate,
            Manifest(stream_time=NOON - 100 + number, model=ReleaseModel(lists="ease", chosen_by="because it won")),
        )
        named(var, published, name)
        publish.make_current(var, name, NOON - 3_600_000 * (3 - number))
    return var


@pytest.fixture
def var(module_var: Path, tmp_path: Path) -> Path:
    return shutil.copytree(module_var, tmp_path / "var", symlinks=True)


def named(var: Path, release: str, name: str) -> None:
    """Give a release another name, so that tests can speak of it."""
    folder = (var / "releases" / release).rename(var / "releases" / name)
    durable.write_json(folder / "manifest.json", orjson.loads((folder / "manifest.json").read_bytes()) | {"id": name})


def moves(var: Path) -> list[tuple[str, str]]:
    return [(move.release, move.by) for move in publish.read_publications(var)]


def state(var: Path) -> object:
    """All that a move could have changed."""
    releases = var / "releases"
    files = {path: path.read_bytes() for path in releases.glob("*.json*")}
    return (releases / "current").readlink(), files, sorted(path.name for path in releases.glob("[!.]*"))


def test_rolling_back_twice_goes_back_two_releases(var: Path) -> None:
    assert releases.roll_back(var, NOON)[0] == "c"
    assert publish.current_release(var) == (var / "releases" / "b").resolve()
    before, release = releases.roll_back(var, NOON + 1)
    assert (before, release.id) == ("b", "a")
    assert moves(var)[3:] == [("b", "rollback"), ("a", "rollback")]
    assert publish.read_publications(var)[-1].stream_time == NOON + 1
    with pytest.raises(ReleaseError, match=r"no release in .* was current before"):
        releases.roll_back(var, NOON + 2)
    assert releases.roll_back(var, NOON + 3, to="c")[1].id == "c"
    releases.roll_back(var, NOON + 4)
    assert publish.current_release(var) == (var / "releases" / "a").resolve()  # c came after a this time


def without_open_reports(var: Path) -> None:
    """As if the current release had been the only one for days."""
    current = publish.read_publications(var)[-1].release
    append_release_change(var / "releases", ReleaseChange(current, NOON - 9 * DAY_MS))


def test_rolling_back_skips_removed_and_refused_releases(var: Path) -> None:
    (var / "releases" / "b").rename(var / "away")
    assert releases.roll_back(var, NOON)[1].id == "a"
    (var / "away").rename(var / "releases" / "b")
    releases.roll_back(var, NOON, to="b")
    releases.roll_back(var, NOON, to="c")
    publish.refuse(var, "b", {"rule": "why"})
    assert releases.roll_back(var, NOON)[1].id == "a"
    releases.roll_back(var, NOON, to="c")
    without_open_reports(var)
    publish.prune(var, 1)
    with pytest.raises(ReleaseError, match="no release"):
        releases.roll_back(var, NOON)


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_current_never_moves_to_a_damaged_release(var: Path, name: str) -> None:
    before, path = state(var), var / "releases" / "b" / name
    content = path.read_bytes()
    for spoiled in (None, content[: len(content) // 2], bytes([*content[:-1], content[-1] ^ 1])):
        path.unlink()
        if spoiled is not None:
            path.write_bytes(spoiled)
        with pytest.raises(ReleaseError, match=r"damaged|there is no release 'b'"):
            releases.roll_back(var, NOON, to="b")
        with pytest.raises(ReleaseError, match=r"damaged|there is no release 'b'"):
            releases.pin(var, NOON, "b")
        if spoiled is not None:
            with pytest.raises(ReleaseError, match="b is damaged"):
                releases.roll_back(var, NOON)
        path.touch()
    assert state(var) == before


def test_current_never_moves_to_an_unknown_or_refused_release_or_itself(var: Path) -> None:
    publish.refuse(var, "a", {"counts_hold": "only 3 users"})
    named(var, "b", "d")
    (var / "releases" / "d").rename(var / "releases" / "b")  # its manifest says d
    before = state(var)
    for name, said in [
        ("e", "there is no release 'e'"),
        ("../releases/a", "there is no release"),
        ("", "there is no release"),
        ("current", "there is no release 'current'"),
        ("a", r"the gate refused a \(counts_hold: only 3 users\).*rollback --to a --even-refused"),
        ("b", "the manifest of b names d"),
        ("c", "c is current already"),
    ]:
        with pytest.raises(ReleaseError, match=said):
            releases.roll_back(var, NOON, to=name or "nothing")
    for name in ("e", "a", "b"):
        with pytest.raises(ReleaseError):
            releases.pin(var, NOON, name)
    assert state(var) == before


def test_a_refused_release_becomes_current_only_if_forced_and_can_then_be_pinned(var: Path) -> None:
    publish.refuse(var, "a", {"rule": "why"})
    releases.roll_back(var, NOON, to="a", even_refused=True)
    releases.pin(var, NOON, "current")
    assert moves(var)[3:] == [("a", "rollback")]
    [row] = [row for row in releases.release_rows(var) if row.release == "a"]
    assert (row.state, row.refused) == ("current, pinned, refused: rule", {"rule": "why"})


def test_a_pinned_release_is_current_and_stays_so(var: Path) -> None:
    assert releases.pin(var, NOON, "a")[0] == "c"
    assert (publish.pinned(var), moves(var)[-1]) == ("a", ("a", "pin"))
    before = state(var)
    for to in (None, "b", "a"):
        with pytest.raises(ReleaseError, match="a is pinned"):
            releases.roll_back(var, NOON, to)
    assert not publish.make_current(var, "b", NOON)
    assert state(var) == before
    assert publish.prunable(var, 1) == []  # reports need b, which was in force an hour ago
    without_open_reports(var)
    assert publish.prunable(var, 1) == ["b"]
    releases.pin(var, NOON, "b")
    assert (publish.pinned(var), publish.line(var)) == ("b", ["a", "b"])


def test_without_a_current_release_there_is_nothing_to_pin_or_go_back_to(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="no current release"):
        releases.pin(tmp_path, NOON, "current")
    with pytest.raises(ReleaseError, match="no release in"):
        releases.roll_back(tmp_path, NOON)
    assert releases.release_rows(tmp_path) == []


def test_an_interrupted_move_is_completed(var: Path) -> None:
    durable.point(var / "releases" / "current", "b")  # killed before the history was written
    releases.roll_back(var, NOON, to="b")
    assert moves(var)[3:] == [("b", "rollback")]
    durable.point(var / "releases" / "current", "gone")
    assert releases.roll_back(var, NOON)[1].id == "a"


def test_the_list_says_what_each_release_is(var: Path) -> None:
    publish.refuse(var, "a", {"lists_differ": "alike", "counts_hold": "few"})
    with (var / "releases" / "b" / "items.npy").open("ab") as file:
        file.write(b"x")
    releases.pin(var, NOON, "c")
    rows = releases.release_rows(var)
    assert [row.state for row in rows] == [
        "refused: lists_differ, counts_hold",
        "damaged: items.npy",
        "current, pinned",
    ]
    row = rows[2]
    assert (row.current_since_ms, row.moved_by, row.data_until_ms) == (NOON - 3_600_000, "night", NOON - 98)
    assert (row.users, row.movies, row.model) == (52, 60, "ease")
    assert row.ndcg_at_20 == {"mean": 0.25, "low": 0.2, "high": 0.3}
    assert row.chosen_by == "because it won"
    [of_length] = row.history_lengths
    assert (of_length.events, of_length.users, of_length.popular, of_length.shown, of_length.against_popular) == (
        "6-10", 9, POPULAR_NDCG, NDCG, AHEAD,
    )  # fmt: skip
    assert row.bytes == sum(path.stat().st_size for path in (var / "releases" / "c").iterdir())
    publish.unpin(var)
    releases.roll_back(var, NOON, to="a", even_refused=True)
    assert [row.state for row in releases.release_rows(var)][2] == "kept"


ODD = (
    b'{"stream_time": "z", "model": {"lists": 5},'
    b' "slices": {"test": {"models": {"ease": {"ndcg@20": {"mean": "x", "low": [], "high": null}}}}}}'
)


@pytest.mark.parametrize("name", ["manifest.json", "evaluation.json", "users.npy", "items.npy"])
def test_the_list_is_shown_even_if_files_are_damaged(var: Path, name: str) -> None:
    path = var / "releases" / "b" / name
    for spoiled in (b"", b"[]", b"{", b'{"files": 3, "slices": [], "model": 1}', ODD, b"\x93NUMPY\x01\x00"):
        path.unlink()
        path.write_bytes(spoiled)
        rows = releases.release_rows(var)
        assert rows[1].state.startswith("damaged: ")
        assert releases.releases_table(rows, zone_named("America/New_York")).row_count == 3


class Said(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Said]


@pytest.fixture
def run(var: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run(command, *arguments)`: a command of `batch.releases` as `python -m batch` runs it, but in this process."""
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MARQUEE_STREAM_VAR", str(var))

    def invoke(command: click.Command, *arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["batch", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.run(command, "batch")
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, *capsys.readouterr())

    return invoke


SETTINGS = {"MARQUEE_STREAM_TIMEZONE": "America/New_York"}


PROGRAM = "from stream.cli import run; from batch.releases.release_commands import rollback; run(rollback, 'batch')"


def environ(var: Path) -> dict[str, str]:
    return {**os.environ, **SETTINGS, "MARQUEE_STREAM_VAR": str(var)}


def test_the_commands_work_one_after_another(var: Path, run: Run) -> None:
    result = run(releases.rollback)
    assert (result.code, result.err) == (0, "")
    assert result.out == (
        "current: c -> b (model ease, data until 2026-02-10 11:59)\n"
        "the next night may make a newer release current; to keep this one: python -m batch pin current\n"
    )
    assert publish.read_publications(var)[-1].stream_time == NOON
    result = run(releases.pin_release, "current")
    assert result.out.splitlines() == [
        "current stays b (model ease, data until 2026-02-10 11:59)",
        "pinned: b; until `python -m batch unpin` no night makes another one current",
    ]
    listed = run(releases.list_releases)
    assert "current, pinned" in listed.out
    assert "0.2500 [0.2000, 0.3000]" in listed.out
    [line] = [line for line in listed.out.splitlines() if "6-10" in line]
    assert "+0.0500 [+0.0100, +0.0900]" in line
    assert "b: ease makes the lists: because it won\n" in listed.out
    assert "c: ease makes the lists" not in listed.out
    assert [row["state"] for row in orjson.loads(run(releases.list_releases, "--json").out)] == [
        "kept", "current, pinned", "kept",
    ]  # fmt: skip
    without_open_reports(var)
    result = run(releases.prune_releases, "--keep", "1", "--dry-run")
    assert (result.out, result.err) == ("a\n", "1 releases would be removed\n")
    assert publish.sealed(var) == ["a", "b", "c"]
    result = run(releases.prune_releases, "--keep", "1")
    assert (result.out, result.err) == ("a\n", "1 releases removed\n")
    assert publish.sealed(var) == ["b", "c"]
    assert run(releases.unpin_release).out.startswith("unpinned: b; the current release stays")
    assert run(releases.unpin_release).out == "no release is pinned\n"


NONSENSE = [
    (releases.rollback, ["--to", "nonsense"], 1),
    (releases.rollback, ["--to"], 2),
    (releases.rollback, ["--even-refused"], 2),
    (releases.pin_release, [], 2),
    (releases.pin_release, ["nonsense"], 1),
    (releases.prune_releases, ["--keep", "0"], 2),
    (releases.unpin_release, ["nonsense"], 2),
    (releases.list_releases, ["nonsense"], 2),
]


@pytest.mark.parametrize(("command", "arguments", "code"), NONSENSE)
def test_invalid_arguments_are_one_clear_error(
    var: Path, run: Run, command: click.Command, arguments: list[str], code: int
) -> None:
    before = state(var)
    result = run(command, *arguments)
    assert (result.code, result.out) == (code, "")
    assert result.err.splitlines()[-1].lower().startswith("error: ")
    assert "Traceback" not in result.err
    assert state(var) == before


@pytest.mark.parametrize("spoiled", [b"", b"{", b"5\n"])
def test_a_damaged_pin_is_reported_and_removed_by_unpin(var: Path, run: Run, spoiled: bytes) -> None:
    (var / "releases" / "pinned.json").write_bytes(spoiled)
    refused = run(releases.rollback)
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert refused.err.startswith("error: ")
    assert "python -m batch unpin" in refused.err
    assert run(releases.unpin_release).code == 0
    assert run(releases.rollback).out.startswith("current: c -> b ")


def test_a_damaged_ledger_does_not_prevent_a_rollback(var: Path, run: Run) -> None:
    for path in (var / "archive" / "ledger").glob("*.json"):
        path.write_bytes(b"")
    last = publish.read_publications(var)[-1].stream_time
    assert run(releases.rollback).out.startswith("current: c -> b ")
    assert publish.read_publications(var)[-1].stream_time == last


def test_while_a_night_runs_releases_can_be_listed_but_not_moved(var: Path, run: Run) -> None:
    before = state(var)
    command_line = [sys.executable, "-c", NIGHT, str(var / "night" / "night.lock")]
    with subprocess.Popen(command_line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as night:
        assert night.stdout is not None
        assert night.stdout.readline() == b"holds\n"
        movers: list[tuple[click.Command, list[str]]] = [
            (releases.rollback, []), (releases.pin_release, ["a"]), (releases.unpin_release, []),
            (releases.prune_releases, []),
        ]  # fmt: skip
        for command, arguments in movers:
            result = run(command, *arguments)
            assert (result.code, result.out) == (1, ""), command
            assert result.err.startswith("error: night: another night runs in"), command
        assert run(releases.list_releases).code == 0
        assert run(releases.prune_releases, "--dry-run").code == 0
    assert state(var) == before
    assert run(releases.rollback).code == 0


NIGHT = """
import sys, filelock
with filelock.FileLock(sys.argv[1]):
    print("holds", flush=True)
    sys.stdin.read()
"""


def test_ctrl_c_leaves_no_traceback_and_current_where_it_was(var: Path) -> None:
    before = state(var)
    os.mkfifo(var / "settings.toml")  # the command waits there
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT, env={**environ(var), "MARQUEE_SETTINGS": str(var / "settings.toml")},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with (var / "settings.toml").open("w"):  # opened only once the command reads it
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=600)
    assert (process.returncode, said.lstrip()) == (130, "interrupted\n")
    assert state(var) == before
