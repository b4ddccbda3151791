"""Files of nights and releases from before their contents had types are still read, and written to the same bytes.

A night of that version made those in `old_files/`, on the history of `conftest.py`.
"""

import shutil
from pathlib import Path

import msgspec
import orjson
import pytest

from batch.history.day_store import DayStore
from batch.nights.journal import Journal
from batch.nights.night_inputs import parse_archive_read, parse_input, write_archive_read, write_input
from batch.nights.step_results import RESULT_TYPES, NightSummary
from batch.releases import publish
from server.manifest import parse_manifest
from stream import durable

OLD_FILES = Path(__file__).parent / "old_files"


def old(name: str) -> bytes:
    return (OLD_FILES / name).read_bytes()


def test_a_manifest_is_read_whole_and_written_as_before(tmp_path: Path) -> None:
    manifest = parse_manifest(old("manifest.json"))
    publish.write_manifest(tmp_path, manifest)
    assert (tmp_path / "manifest.json").read_bytes() == old("manifest.json")
    facts = manifest.require_input()
    assert (manifest.layout, manifest.require_stream_time()) == (1, facts.stream_time)
    assert (manifest.model.lists, manifest.versions.commit) == ("popular", "9277935")
    assert facts == parse_input(old("input.json"))


def test_a_manifest_of_a_version_to_come_is_read_as_far_as_it_is_known() -> None:
    document = orjson.loads(old("manifest.json"))
    document |= {"new": 1, "settings": [], "model": {"lists": 5}}
    document["files"]["users.npy"]["new"] = 1
    manifest = parse_manifest(orjson.dumps(document))
    assert (manifest.settings, manifest.model.lists) == ({}, None)
    assert manifest.files == parse_manifest(old("manifest.json")).files


def test_a_field_of_another_form_costs_a_manifest_no_other_field() -> None:
    document = orjson.loads(old("manifest.json"))
    document["model"] |= {"trees": "50", "parameters": {"x": None}}
    document["versions"]["blas"] = [{"num_threads": "two"}]
    document["input"]["offsets"] = {"movielog1-0": None}
    manifest, intact = parse_manifest(orjson.dumps(document)), parse_manifest(old("manifest.json"))
    assert manifest.model == msgspec.structs.replace(intact.model, trees=None, parameters={})
    assert manifest.versions == msgspec.structs.replace(intact.versions, blas=[])
    assert intact.input is not None
    assert manifest.input == msgspec.structs.replace(intact.input, offsets={})
    document["input"]["stream_time"] = "late"
    assert parse_manifest(orjson.dumps(document)).input is None


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff", b'{"id": "\xff"}', b'{"id": "x",}'])
def test_what_is_no_json_object_is_no_manifest(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        parse_manifest(data)


def test_what_a_night_was_made_of_is_read_and_written_as_before(tmp_path: Path) -> None:
    write_archive_read(tmp_path, parse_archive_read(old("read.json")))
    write_input(tmp_path, parse_input(old("input.json")))
    for name in ("read.json", "input.json"):
        assert (tmp_path / name).read_bytes() == old(name)


@pytest.mark.parametrize("missing", ["stream_time", "offsets", "hash", "days", "counts", "hidden"])
def test_an_input_that_does_not_say_all_that_a_night_needs_is_damaged(missing: str) -> None:
    document = orjson.loads(old("input.json"))
    del document[missing]
    with pytest.raises(msgspec.DecodeError, match=missing):
        parse_input(orjson.dumps(document))


def test_a_journal_is_gone_on_with_and_written_as_before(tmp_path: Path) -> None:
    shutil.copy(OLD_FILES / "journal.json", tmp_path)
    journal = Journal(tmp_path)
    assert [entry.step for entry in journal.done([*RESULT_TYPES])] == [*RESULT_TYPES]
    assert all(type(entry.result()) is RESULT_TYPES[entry.step] for entry in journal.done([*RESULT_TYPES]))
    journal.end()
    assert (tmp_path / "journal.json").read_bytes() == old("journal.json")


def test_a_summary_has_the_fields_that_it_had(tmp_path: Path) -> None:
    document = orjson.loads(old("summary.json"))
    results = {name: msgspec.convert(document["steps"][name], kind) for name, kind in RESULT_TYPES.items()}
    head = {name: document[name] for name in ("release", "seconds", "peak_memory_mb")}
    durable.write_json(tmp_path / "summary.json", msgspec.to_builtins(NightSummary(**head, steps=results)))
    assert (tmp_path / "summary.json").read_bytes() == old("summary.json")


def test_a_day_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "sessions" / "day=2030-01-01"
    folder.mkdir(parents=True)
    shutil.copy(OLD_FILES / "made.json", folder)
    [source] = DayStore(tmp_path).days().values()
    assert (source.imported, source.counts["sessions"]) == (None, 333)


def test_moves_pins_and_refusals_are_read(tmp_path: Path) -> None:
    releases = tmp_path / "releases"
    (releases / ".refused").mkdir(parents=True)
    for name, target in (
        ("history.jsonl", releases),
        ("pinned.json", releases),
        ("refused.json", releases / ".refused"),
    ):
        shutil.copy(OLD_FILES / name, target)
    [change] = publish.read_publications(tmp_path)
    (releases / change.release).mkdir()
    assert (change.by, publish.pinned(tmp_path)) == ("night", change.release)
    assert publish.refused_releases(tmp_path) == {"x": {"counts_hold": "only 3 users"}}
    publish.make_current(tmp_path, change.release, change.stream_time + 1, "pin")
    assert (releases / "history.jsonl").read_bytes().startswith(old("history.jsonl"))


def test_a_move_of_the_time_before_it_was_noted_by_whom_stays_as_it_is(tmp_path: Path) -> None:
    line = b'{"release":"a","stream_time":1,"wall_time":"2030-01-01T00:00:00+00:00"}'
    durable.write_bytes(tmp_path / "releases" / "history.jsonl", line)
    assert publish.make_current(tmp_path, "b", 2)
    first, second = (tmp_path / "releases" / "history.jsonl").read_bytes().splitlines()
    assert (first, publish.read_publications(tmp_path)[0].by) == (line, "night")
    assert msgspec.json.decode(second) | {"wall_time": ""} == {
        "release": "b", "stream_time": 2, "wall_time": "", "by": "night",
    }  # fmt: skip
