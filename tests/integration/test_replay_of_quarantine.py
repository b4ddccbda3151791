"""From damaged lines in Kafka to a repaired rule: the sums hold at every moment, even if processes are killed."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest

from loadtest.demo.processes import ROOT
from quality.lines.ledger_summary import summarize
from quality.lines.quarantine import quarantined_lines
from stream import kafka
from stream.archive import Archive
from stream.event import KINDS, Event
from stream.grammar import render
from stream.ledger_entry import count_by_fate
from stream.settings import StreamSettings, load
from stream.zone import zone_named
from tests.integration.marquee_processes import Start
from tests.polling import DEADLINE_S, until

NEW_YORK = zone_named("America/New_York")
NOON = NEW_YORK.bounds("2026-02-10")[0] + 12 * 3_600_000
NEWER = {"MARQUEE_STREAM_GENERATION": "2026"}
"""With this setting ratings up to 10 are good."""


def at(second: int) -> int:
    return NOON + second * 1_000


def line(second: int, rating: int | None = None) -> bytes:
    """A line of a given second; in the older generation a rating above 5 is a fault."""
    user = 1 + second % 500
    if rating is None:
        return render(Event("watch", at(second), user, "alien+1979", minute=second % 90), NEW_YORK)
    return render(Event("rate", at(second), user, "alien+1979", rating=rating), NEW_YORK)


def write(environ: dict[str, str], values: list[bytes]) -> None:
    async def writing() -> None:
        async with kafka.writing(load("stream", StreamSettings, environ)) as writer:
            await writer.write(values, [at(second) + 300 for second in range(len(values))])

    asyncio.run(writing())


def archive_of(environ: dict[str, str]) -> Archive:
    return Archive(load("stream", StreamSettings, environ).var)


def said(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "quality", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )


@pytest.fixture
def environ(environ: dict[str, str]) -> dict[str, str]:
    """The settings of one test and none of this process's MARQUEE variables."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("MARQUEE_")}
    return others | environ | {"MARQUEE_STREAM_GENERATION": "2022"}


def offsets(archive: Archive) -> Counter[int]:
    """How often each offset occurs in the files that the ledger names."""
    paths = [archive.var / file.path for entry in archive.entries() for file in entry.files]
    tables = [pq.ParquetFile(path).read(columns=["offset"]) for path in paths]
    return Counter(offset for table in tables for offset in table.column(0).to_pylist())


def files_there(archive: Archive) -> set[Path]:
    folders = [archive.var / "archive" / kind for kind in KINDS] + [archive.var / "quarantine"]
    return {path for folder in folders for path in folder.glob("day=*/*")}


def revised(archive: Archive) -> int:
    """How many entries have a later revision."""
    return sum(entry.revision > 0 for entry in archive.entries())


def test_damaged_lines_are_accounted_for_looked_into_and_taken_when_a_setting_is_mended(
    environ: dict[str, str], start: Start
) -> None:
    values = [line(second) for second in range(500)]
    values[10] = values[10].replace(b"GET", b"GE T")
    values[20] = b"2026-02-10T12:0:20" + values[20][values[20].index(b",") :]
    values[30:33] = [b"\xff\xfe nonsense", b"", values[30]]
    values[40:44] = [line(40, 9), line(41, 10), line(42, 11), values[39]]
    write(environ, values)
    assert start(environ, "batch", "collect", "--until-idle", "1").ends() == 0
    fates = {"accepted": 492, "repaired": 3, "quarantined": 4, "duplicate": 1}

    summary = orjson.loads(said(environ, "ledger", "--json").stdout)
    assert {name: summary[name] for name in ("in", "balanced", *fates)} == {"in": 500, "balanced": True, **fates}
    listed = [row.split("\t") for row in said(environ, "quarantine", "list").stdout.splitlines()]
    topic = environ["MARQUEE_STREAM_TOPIC"]
    assert [(row[0], row[2]) for row in listed] == [
        (f"{topic}-0:30", "not_utf8"), (f"{topic}-0:31", "empty"), (f"{topic}-0:40", "rating_max"),
        (f"{topic}-0:41", "rating_max"),
    ]  # fmt: skip
    shown = orjson.loads(said(environ, "quarantine", "show", listed[2][0]).stdout)
    assert (shown["raw"], shown["reason"], shown["could_mean"]) == (values[40].decode(), "rating_max", [])

    replayed = said(environ | NEWER, "quarantine", "replay")
    assert orjson.loads(replayed.stdout) == {"accepted": 2, "repaired": 0, "quarantined": 2, "duplicate": 0}
    after = orjson.loads(said(environ, "ledger", "--json", "--day", "2026-02-10").stdout)
    fates = {"accepted": 494, "repaired": 3, "quarantined": 2, "duplicate": 1}
    assert {name: after[name] for name in ("in", "balanced", *fates)} == {"in": 500, "balanced": True, **fates}
    archive = archive_of(environ)
    assert set(offsets(archive).values()) == {1}
    assert files_there(archive) == {archive.var / file.path for one in archive.entries() for file in one.files}
    assert {one.raw for one in quarantined_lines(archive)} == {values[30], values[31]}


def test_the_collector_goes_on_behind_a_replay(environ: dict[str, str], start: Start) -> None:
    write(environ, [line(second, 9) for second in range(20)])
    assert start(environ, "batch", "collect", "--until-idle", "1").ends() == 0
    assert said(environ | NEWER, "quarantine", "replay").returncode == 0
    write(environ, [line(second) for second in range(20)])
    assert start(environ, "batch", "collect", "--until-idle", "1").ends() == 0
    archive = archive_of(environ)
    assert offsets(archive) == Counter(range(40))
    assert count_by_fate(archive.entries())["accepted"] == 40
    assert revised(archive) == 1


def test_a_replay_while_the_collector_runs_is_refused_in_one_line(environ: dict[str, str], start: Start) -> None:
    write(environ, [line(second, 9) for second in range(20)])
    collector = start(environ, "batch", "collect")
    archive = archive_of(environ)
    until(lambda: archive.entries())
    refused = said(environ | NEWER, "quarantine", "replay")
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
    assert "another process writes" in refused.stderr
    assert revised(archive) == 0
    looked = said(environ | NEWER, "quarantine", "replay", "--dry-run")
    assert orjson.loads(looked.stdout)["accepted"] == 20
    collector.process.terminate()
    assert collector.ends() == 0
    assert said(environ | NEWER, "quarantine", "replay").returncode == 0
    assert revised(archive) == 1


def test_a_collector_beside_a_replay_is_refused_in_one_line(environ: dict[str, str], start: Start) -> None:
    write(environ, [line(second, 9) for second in range(20)])
    with archive_of(environ).writing():
        refused = start(environ, "batch", "collect", "--until-idle", "1")
        assert refused.ends() == 1
    assert refused.text().splitlines()[-1].startswith("error: archive: another process writes")


DYING = """
import sys
from pathlib import Path
from stream.archive import Archive
from tests import killed_when
archive, wanted = Archive(Path(sys.argv[1])), int(sys.argv[2])
killed_when.run(lambda: sum(one.revision > 0 for one in archive.entries()) >= wanted, "quality", "quarantine", "replay")
"""


def test_kill_9_of_a_replay_at_any_moment_neither_loses_nor_repeats(environ: dict[str, str], start: Start) -> None:
    environ |= {"MARQUEE_STREAM_BATCH_LINES": "40", "MARQUEE_STREAM_BATCH_SECONDS": "0.01"}
    count, dice = 1_400, random.Random(7)
    write(environ, [line(second, 9 if second % 4 else None) for second in range(count)])
    assert start(environ, "batch", "collect", "--until-idle", "1").ends() == 0
    archive = archive_of(environ)
    entries = len(archive.entries())
    assert entries >= 30
    for _ in range(3):
        wanted = revised(archive) + dice.randint(1, 6)
        command = [sys.executable, "-c", DYING, str(archive.var), str(wanted)]
        killed = subprocess.run(command, cwd=ROOT, env=environ | NEWER, timeout=DEADLINE_S, check=False)
        assert killed.returncode == -signal.SIGKILL
        assert summarize(archive.entries()).balanced
        assert offsets(archive) == Counter(range(count))
    assert revised(archive) < entries
    assert start(environ | NEWER, "quality", "quarantine", "replay").ends() == 0
    assert (
        start(environ, "batch", "collect", "--until-idle", "1").ends() == 0
    )  # it sweeps the files that killed processes left
    assert [entry.revision for entry in archive.entries()] == [1] * entries
    assert count_by_fate(archive.entries()) == {"accepted": count, "repaired": 0, "quarantined": 0, "duplicate": 0}
    assert offsets(archive) == Counter(range(count))
    assert files_there(archive) == {archive.var / file.path for one in archive.entries() for file in one.files}
    assert orjson.loads(said(environ, "ledger", "--json").stdout)["balanced"] is True
