"""`python -m stream`: counts and reasons on stdout and stderr, errors in one line with an exit code."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from quality.catalog import KnownIds
from quality.lines.context_checks import make_context
from quality.lines.verdicts import ParsedLines, judge
from quality.settings import QualitySettings
from stream.__main__ import commands
from stream.archive import Archive
from stream.clock import CLOCK_AHEAD, LatestLines, PartitionClock, Quorum
from stream.ledger_entry import FateCount, TimeRange
from stream.settings import StreamSettings
from stream.zone import HOUR_MS
from tests.ledger_entries import entry, gap

ROOT = Path(__file__).parents[2]
GOOD = b"2022-10-07T13:44,5,GET /data/m/a+1984/5.mpg\n"
BAD = b"2022-10-07T 13:44,5,GET /data/m/a+1984/5.mpg\n"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    path = tmp_path / "settings.toml"
    path.write_text(f'[stream]\nvar = "{tmp_path / "var"}"\ntimezone = "America/New_York"\n')
    return {"MARQUEE_SETTINGS": str(path)}


def said(environ: dict[str, str], *arguments: str | Path) -> Result:
    return CliRunner().invoke(commands, [str(argument) for argument in arguments], env=environ, catch_exceptions=False)


def process(environ: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stream", *map(str, arguments)]
    environ = {**os.environ, **environ}
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=600, check=False)


DASH = "import click; from stream.cli import run; run(click.Command('x', callback=lambda: print('a – b')), 'x')"


def test_unprintable_characters_become_question_marks() -> None:
    environ = {**os.environ, "PYTHONIOENCODING": "ascii"}
    process = subprocess.run([sys.executable, "-c", DASH], cwd=ROOT, env=environ, capture_output=True, check=False)
    assert (process.returncode, process.stdout, process.stderr) == (0, b"a ? b\n", b"")


@pytest.mark.parametrize(
    ("lines", "counts"),
    [
        (b"", {"lines": 0, "watch": 0, "refused": {}}),
        (GOOD, {"lines": 1, "watch": 1, "refused": {}}),
        (GOOD[:-1], {"lines": 1, "watch": 1, "refused": {}}),
        (GOOD + b"\n" + BAD + GOOD + BAD, {"lines": 5, "watch": 2, "refused": {"empty": 1, "time": 2}}),
        (b"\n", {"lines": 1, "watch": 0, "refused": {"empty": 1}}),
    ],
)
def test_check_counts_lines_kinds_and_reasons(
    tmp_path: Path, environ: dict[str, str], lines: bytes, counts: dict[str, object]
) -> None:
    (tmp_path / "lines.txt").write_bytes(lines)
    summary = orjson.loads(said(environ, "check", tmp_path / "lines.txt").stdout)
    assert {"lines": summary["lines"], "watch": summary["kinds"]["watch"], "refused": summary["refused"]} == counts


def test_check_shows_at_most_the_given_number_of_refused_lines(tmp_path: Path, environ: dict[str, str]) -> None:
    (tmp_path / "lines.txt").write_bytes(GOOD + BAD * 5)
    shown = said(environ, "check", "--refused", "2", tmp_path / "lines.txt").stderr.splitlines()
    assert [line.split(": ")[:2] for line in shown] == [["line 2", "time"], ["line 3", "time"]]


OF_EACH_KIND = [
    b"2022-10-07T13:44,5,GET /data/m/a+1984/5.mpg\r",
    b"2022-10-07T13:44,5,GET /rate/a+1984=3\r",
    b"2022-10-07T13:44,5,GET /create_account\r",
    b"2022-10-07T13:44,5,recommendation request a:1, status 200, result: a+1984, 5 ms\r",
    b"2022-10-07T13:44,5,recommendation request a:1, status 0, result: timed out, 5 ms\r",
]


def test_check_says_which_lines_the_collector_repairs_by_their_carriage_return(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    (tmp_path / "lines.txt").write_bytes(b"\n".join([GOOD[:-1], BAD[:-1] + b"\r", b"x\r", *OF_EACH_KIND]))
    done = said(environ, "check", tmp_path / "lines.txt")
    told = orjson.loads(done.stdout)
    assert (sum(told["refused"].values()), told["crlf"]) == (7, 5)
    assert "5 of the refused lines, first line 4, only end in CR LF: the collector repairs" in done.stderr
    context = make_context(StreamSettings(), QualitySettings(), KnownIds())
    kafka_times = np.full(len(OF_EACH_KIND), int(datetime(2022, 10, 7, 17, 44, tzinfo=UTC).timestamp()) * 1000)
    verdicts = judge(ParsedLines.read(pa.array(OF_EACH_KIND, pa.binary()), kafka_times, context.zone), context)
    assert sum(len(kept.rules) for kept in verdicts.kept.values()) == len(OF_EACH_KIND)


def test_check_is_silent_of_carriage_returns_where_there_are_none(tmp_path: Path, environ: dict[str, str]) -> None:
    (tmp_path / "lines.txt").write_bytes(GOOD + BAD)
    done = said(environ, "check", tmp_path / "lines.txt")
    assert orjson.loads(done.stdout)["crlf"] == 0
    assert "CR LF" not in done.stderr


def test_clock_shows_how_far_the_stream_has_come_and_what_is_set_aside(tmp_path: Path, environ: dict[str, str]) -> None:
    assert orjson.loads(said(environ, "clock").stdout) == {}
    archive, noon = Archive(tmp_path / "var"), 1_665_158_400_000
    latest = LatestLines.of(Quorum(), noon + 1000 * np.arange(60), np.arange(60))
    clock = PartitionClock.of(latest, noon + 5 * HOUR_MS)
    faults = {f"quarantined:{CLOCK_AHEAD}": 2}
    archive.commit(entry(0, 59, faults, kafka_time=TimeRange(noon, noon + 59_000), clock=clock))
    assert orjson.loads(said(environ, "clock").stdout) == {
        "movielog1": {
            "reached": "2022-10-07T12:00:40",
            "reached_ms": noon + 40_000,
            "limit": "2022-10-07T13:00:40",
            "partitions": {
                "0": {
                    "reached": "2022-10-07T12:00:40",
                    "latest": "2022-10-07T12:00:59",
                    "set_aside": {"lines": 2, "earliest": "2022-10-07T17:00"},
                }
            },
        }
    }


def test_check_shows_hostile_bytes_in_ascii(tmp_path: Path, environ: dict[str, str]) -> None:
    (tmp_path / "lines.txt").write_bytes(b"\x1b[31m\x07\xff\xe2\x80\xae,\r,\x00\n")
    shown = said(environ, "check", tmp_path / "lines.txt").stderr
    assert shown.isascii()
    assert shown.replace("\n", "").isprintable()


def test_an_empty_archive_is_reported_as_empty(environ: dict[str, str]) -> None:
    summary = orjson.loads(said(environ, "archive").stdout)
    assert summary == {"entries": 0, "lost": 0, "topics": {}, "reached_ms": None, "reached_day": None}


def test_the_archive_command_counts_by_topic_and_fate(tmp_path: Path, environ: dict[str, str]) -> None:
    archive = Archive(tmp_path / "var")
    counts = [
        FateCount("accepted", "watch", "2022-10-07", None, 7),
        FateCount("quarantined", None, "2022-10-07", "time", 3),
    ]
    reached = TimeRange(1_665_150_000_000, 1_665_201_599_999)  # the last ms of 7 October in New York
    archive.commit(entry(0, 9, counts=counts, kafka_time=reached))
    archive.commit(gap(10, 14))
    summary = orjson.loads(said(environ, "archive").stdout)
    assert (summary["entries"], summary["lost"], summary["reached_day"]) == (2, 5, "2022-10-07")
    assert summary["topics"] == {"movielog1": {"accepted": 7, "repaired": 0, "quarantined": 3, "duplicate": 0}}


def test_a_ledger_that_cannot_be_read_is_one_line_and_exit_code_1(tmp_path: Path, environ: dict[str, str]) -> None:
    (tmp_path / "var/archive/ledger").mkdir(parents=True)
    (tmp_path / "var/archive/ledger/movielog1-0-000000000000-000000000009.json").write_bytes(b"{")
    done = process(environ, "archive")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("error: ledger: cannot read ")


def test_a_mistyped_setting_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('[stream]\ntopik = "movielog1"\n')
    done = process({"MARQUEE_SETTINGS": str(tmp_path / "settings.toml")}, "archive")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "topik" in done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MARQUEE_BOGUS", "1"), ("MARQUEE_STRAEM_VAR", "x"), ("MARQUEE_STREAM_VRA", "x"), ("MARQUEE_STREAM_VAR", ""),
        ("MARQUEE_STREAM_BOOTSTRAP", "127.0.0.1:99999"), ("MARQUEE_STREAM_FETCH_TIMEOUT_MS", "99999999999999"),
    ],
)  # fmt: skip
def test_a_wrong_variable_is_one_line_and_exit_code_2(environ: dict[str, str], name: str, value: str) -> None:
    done = process({**environ, name: value}, "tail")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: settings: ")


@pytest.mark.parametrize("arguments", [["chek"], ["check"], ["check", "no-such-file"], ["broker", "--port", "70000"]])
def test_wrong_usage_is_exit_code_2_without_a_traceback(environ: dict[str, str], arguments: list[str]) -> None:
    done = process(environ, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr


def test_help_is_exit_code_0(environ: dict[str, str]) -> None:
    done = process(environ, "--help")
    assert done.returncode == 0
    assert "archive" in done.stdout
