"""`python -m quality ledger` and `quarantine`: sums, lines and JSON as asked for, and errors in one line."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from batch.collecting.collector import PendingLines, archive_batch
from quality.__main__ import commands
from quality.catalog import Catalog, KnownIds
from quality.lines.context_checks import make_context
from quality.lines.ledger_summary import summarize
from quality.lines.quarantine import quarantined_lines
from quality.settings import QualitySettings
from stream.archive import Archive
from stream.kafka import FetchedRecords
from stream.ledger_entry import LedgerEntry
from stream.set_aside import OpenCases
from stream.settings import StreamSettings
from stream.zone import HOUR_MS, zone_named
from tests.ledger_entries import credulous

ROOT = Path(__file__).parents[2]
NOW = 1_665_150_000_000  # 2022-10-07T09:40 in New York
LINES = [
    b"2022-10-07T09:40,5,GET /data/m/a+1984/5.mpg",
    b"2022-10-07T09:40,5,GET /data/m/a+1984/6.mpg-",
    b"2022-10-08T01:30,7801,GET /data/m/a+1984/7.mpg",
    b"2022-10-07T09:40,5,GET /rate/a+1984=9",
    b"2022-10-07T09:40,5,GET /data/m/a+1984/05.mpg",
    b"\x1b[31m\x07\xff\xe2\x80\xae,\r,\x00\n\t",
    b"nonsense \xc3\xa9" + b"x" * 1_000,
    b"",
    b"2022-10-07T09:40,5,GET /data/m/a+1984/5.mpg",
]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    path = tmp_path / "settings.toml"
    path.write_text(f'[stream]\nvar = "{tmp_path / "var"}"\ntimezone = "America/New_York"\nmax_user = 1000\n')
    return {"MARQUEE_SETTINGS": str(path)}


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """An archive with one batch; its third line came to Kafka on the next day."""
    archive = Archive(tmp_path / "var")
    collected(archive)
    return archive


def collected(archive: Archive) -> LedgerEntry:
    streaming = StreamSettings(max_user=1_000)
    times = np.full(len(LINES), NOW)
    times[2] += 16 * HOUR_MS
    waiting = PendingLines(0)
    waiting.add(FetchedRecords(0, LINES, np.arange(len(LINES)), times))
    context = make_context(streaming, QualitySettings(), KnownIds())
    zone, clock = zone_named(streaming.timezone), credulous()
    return archive_batch(archive, "movielog1", 0, waiting, zone, clock, OpenCases(), lambda lines: context)


def run_command(environ: dict[str, str], *arguments: str) -> Result:
    return CliRunner().invoke(commands, arguments, env=environ, catch_exceptions=False)


def run_process(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "quality", *arguments]
    environ = {**os.environ, **environ}
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=600, check=False)


def is_one_line(done: subprocess.CompletedProcess[str], code: int, text: str) -> bool:
    return (done.returncode, done.stdout) == (code, "") and done.stderr.count("\n") == 1 and text in done.stderr


# the ledger -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("day", [None, "2022-10-07", "2022-10-08", "2030-01-01"])
def test_the_ledger_as_json_is_its_summary(environ: dict[str, str], archive: Archive, day: str | None) -> None:
    done = run_command(environ, "ledger", "--json", *(["--day", day] if day else []))
    assert done.exit_code == 0
    summary = orjson.loads(done.stdout)
    assert summary == msgspec.to_builtins(summarize(archive.entries(), day, damaged=[]))
    assert summary["balanced"] is True


def test_the_ledger_as_a_table_names_every_fate_and_reason(environ: dict[str, str], archive: Archive) -> None:
    done = run_command(environ, "ledger")
    assert done.exit_code == 0
    for text in ("9 lines in, balanced", "accepted", "one_character", "rating_max", "minute", "not_utf8", "duplicate"):
        assert text in done.stdout


def test_a_ledger_without_entries_is_balanced(environ: dict[str, str], tmp_path: Path) -> None:
    assert orjson.loads(run_command(environ, "ledger", "--json").stdout)["in"] == 0
    assert "0 lines in, balanced" in run_command(environ, "ledger").stdout
    assert not (tmp_path / "var").exists()


@pytest.mark.parametrize("arguments", [["--json"], ["--json", "--day", "2022-10-07"], []])
def test_a_ledger_that_does_not_add_up_is_exit_code_1(
    environ: dict[str, str], archive: Archive, arguments: list[str]
) -> None:
    [path] = archive.ledger.glob("*.json")
    entry = orjson.loads(path.read_bytes())
    entry["files"][0]["rows"] += 1
    path.write_bytes(orjson.dumps(entry))
    done = run_process(environ, "ledger", *arguments)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    if "--json" in arguments:
        assert orjson.loads(done.stdout)["balanced"] is False
    else:
        assert "DOES NOT ADD UP" in done.stdout


def test_an_entry_that_cannot_be_read_is_one_line(environ: dict[str, str], archive: Archive) -> None:
    [path] = archive.ledger.glob("*.json")
    path.write_bytes(b"{")
    assert is_one_line(run_process(environ, "ledger"), 1, "error: ledger: cannot read ")


# the quarantine -------------------------------------------------------------------------------------------------


def listed(environ: dict[str, str], *arguments: str) -> list[list[str]]:
    done = run_command(environ, "quarantine", "list", *arguments)
    assert done.exit_code == 0
    assert done.stdout.isascii()
    assert done.stdout.replace("\n", "").replace("\t", "").isprintable()
    return [line.split("\t") for line in done.stdout.splitlines()]


def test_the_quarantine_is_listed_a_line_each(environ: dict[str, str], archive: Archive) -> None:
    lines = listed(environ)
    assert [line[:3] for line in lines] == [
        ["movielog1-0:2", "2022-10-08T01:40", "user_unknown"],
        ["movielog1-0:3", "2022-10-07T09:40", "rating_max"],
        ["movielog1-0:4", "2022-10-07T09:40", "minute"],
        ["movielog1-0:5", "2022-10-07T09:40", "not_utf8"],
        ["movielog1-0:6", "2022-10-07T09:40", "fields"],
        ["movielog1-0:7", "2022-10-07T09:40", "empty"],
    ]
    assert lines[1][3] == repr(LINES[3].decode())
    assert all(len(line) == 4 and len(line[3]) < 250 for line in lines)


@pytest.mark.parametrize(
    ("arguments", "offsets"),
    [
        (["--day", "2022-10-08"], [2]),
        (["--day", "2022-10-09"], []),
        (["--reason", "minute"], [4]),
        (["--reason", "nothing_of_the_kind"], []),
        (["--day", "2022-10-07", "--reason", "minute"], [4]),
        (["--day", "2022-10-08", "--reason", "minute"], []),
        (["--limit", "2"], [2, 3]),
        (["--limit", "0"], [2, 3, 4, 5, 6, 7]),
    ],
)
def test_only_what_is_asked_for_is_listed(
    environ: dict[str, str], archive: Archive, arguments: list[str], offsets: list[int]
) -> None:
    assert [line[0] for line in listed(environ, *arguments)] == [f"movielog1-0:{offset}" for offset in offsets]


def test_without_an_archive_nothing_is_listed(environ: dict[str, str]) -> None:
    assert listed(environ) == []


def test_a_reader_that_wants_no_more_is_no_error(environ: dict[str, str], archive: Archive) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "quality", "quarantine", "list", "--limit", "0"]
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **environ}, stdout=pipe, stderr=subprocess.PIPE, check=False
        )
    assert b"Traceback" not in done.stderr
    assert done.stderr.count(b"\n") <= 1


@pytest.mark.parametrize("offset", [2, 3, 4, 5, 6, 7])
def test_each_line_is_shown_as_json(environ: dict[str, str], archive: Archive, offset: int) -> None:
    done = run_command(environ, "quarantine", "show", f"movielog1-0:{offset}")
    assert done.exit_code == 0
    explanation = orjson.loads(done.stdout)
    assert set(explanation) == {"id", "reason", "detail", "raw", "kafka_time_ms", "could_mean"}
    assert explanation["raw"] == LINES[offset].decode("utf-8", "backslashreplace")


def test_what_a_line_could_mean_is_shown(environ: dict[str, str], archive: Archive) -> None:
    explanation = orjson.loads(run_command(environ, "quarantine", "show", "movielog1-0:4").stdout)
    assert explanation["could_mean"] == [
        "2022-10-07T09:40,5,GET /data/m/a+1984/0.mpg",
        "2022-10-07T09:40,5,GET /data/m/a+1984/5.mpg",
    ]


def test_an_id_that_there_is_not_is_one_line(environ: dict[str, str], archive: Archive) -> None:
    assert is_one_line(run_process(environ, "quarantine", "show", "movielog1-0:0"), 1, "no line 'movielog1-0:0'")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["ledger", "--day", "2022-02-30"], "--day"),
        (["quarantine", "list", "--day", "yesterday"], "--day"),
        (["quarantine", "list", "--limit", "-1"], "--limit"),
        (["quarantine", "replay", "--day", "7"], "--day"),
        (["quarantine", "show"], "LINE"),
        (["quarantine", "forget"], "forget"),
    ],
)
def test_nonsense_is_exit_code_2_and_one_clear_error(environ: dict[str, str], arguments: list[str], text: str) -> None:
    done = run_command(environ, *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert [text in line for line in done.stderr.splitlines() if line.startswith("Error: ")] == [True]


def test_nonsense_ends_the_process_without_a_traceback(environ: dict[str, str]) -> None:
    done = run_process(environ, "ledger", "--day", "x")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--day" in done.stderr
    assert "Traceback" not in done.stderr


# replay ---------------------------------------------------------------------------------------------------------


def test_a_replay_after_a_setting_was_changed_takes_its_lines(environ: dict[str, str], archive: Archive) -> None:
    done = run_command(environ | {"MARQUEE_STREAM_MAX_USER": "10000"}, "quarantine", "replay")
    assert orjson.loads(done.stdout) == {"accepted": 1, "repaired": 0, "quarantined": 5, "duplicate": 0}
    summary = orjson.loads(run_command(environ, "ledger", "--json").stdout)
    assert (summary["balanced"], summary["in"], summary["quarantined"]) == (True, 9, 5)
    assert "movielog1-0:2" not in [line[0] for line in listed(environ)]


def test_a_replay_takes_what_the_catalogue_of_today_knows(environ: dict[str, str], archive: Archive) -> None:
    Catalog(archive.var).keep("user", [("7801", "known", {"user_id": 7801}, "")])
    done = run_command(environ, "quarantine", "replay")
    assert orjson.loads(done.stdout)["accepted"] == 1


def test_a_replay_by_the_same_rules_changes_nothing(environ: dict[str, str], archive: Archive) -> None:
    before = {path: path.read_bytes() for path in archive.ledger.glob("*.json")}
    done = run_command(environ, "quarantine", "replay")
    assert orjson.loads(done.stdout) == {"accepted": 0, "repaired": 0, "quarantined": 6, "duplicate": 0}
    assert {path: path.read_bytes() for path in archive.ledger.glob("*.json")} == before


def test_a_dry_run_only_counts(environ: dict[str, str], archive: Archive) -> None:
    with archive.writing():  # nobody has to stop for it
        done = run_command(environ | {"MARQUEE_STREAM_MAX_USER": "10000"}, "quarantine", "replay", "--dry-run")
    assert orjson.loads(done.stdout)["accepted"] == 1
    assert len(list(quarantined_lines(archive))) == 6


def test_a_replay_beside_another_writer_is_refused_in_one_line(environ: dict[str, str], archive: Archive) -> None:
    with archive.writing():
        done = run_process(environ | {"MARQUEE_STREAM_MAX_USER": "10000"}, "quarantine", "replay")
    assert is_one_line(done, 1, "another process writes")
    assert len(list(quarantined_lines(archive))) == 6


# what is broken -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["list"], ["show", "movielog1-0:4"], ["replay"]])
def test_a_quarantine_file_that_is_lost_is_one_line(
    environ: dict[str, str], archive: Archive, arguments: list[str]
) -> None:
    for path in (archive.var / "quarantine").glob("day=2022-10-07/*"):
        path.unlink()
    assert is_one_line(run_process(environ, "quarantine", *arguments), 1, "day=2022-10-07")


@pytest.mark.parametrize("arguments", [["list"], ["replay"]])
def test_a_quarantine_file_that_is_no_parquet_is_one_line(
    environ: dict[str, str], archive: Archive, arguments: list[str]
) -> None:
    for path in (archive.var / "quarantine").glob("day=2022-10-07/*"):
        path.write_bytes(path.read_bytes()[:-100])
    done = run_process(environ, "quarantine", *arguments)
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["show", "movielog1-0:4"], ["replay"]])
def test_a_catalogue_that_cannot_be_read_is_one_line(
    environ: dict[str, str], archive: Archive, arguments: list[str]
) -> None:
    Catalog(archive.var).keep("movie", [("a+1984", "known", {"id": "a+1984"}, "")])
    Catalog(archive.var).path.write_bytes(b"no database" * 500)
    done = run_process(environ, "quarantine", *arguments)
    assert is_one_line(done, 1, "catalog.sqlite")


def test_a_file_of_events_that_is_lost_is_told_by_the_ledger(environ: dict[str, str], archive: Archive) -> None:
    for path in (archive.var / "archive" / "watch").glob("day=*/*"):
        path.unlink()
    assert run_command(environ, "ledger", "--json").exit_code == 1


def test_a_file_with_fewer_rows_than_its_entry_says_is_told_by_the_ledger(
    environ: dict[str, str], archive: Archive
) -> None:
    [path] = (archive.var / "archive" / "watch").glob("day=*/*")
    pq.write_table(pq.ParquetFile(path).read().slice(1), path)
    assert run_command(environ, "ledger", "--json").exit_code == 1
