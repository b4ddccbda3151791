"""The benchmark `telemetry` on very little: its figures, and that nothing is left behind. No times are asserted."""

from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from loadtest.bench import commands
from loadtest.bench.telemetry import telemetry_benchmark
from loadtest.bench.telemetry.simple_join import SimpleJoin
from loadtest.bench.telemetry.telemetry_benchmark import TELEMETRY, TelemetrySize

TINY = TelemetrySize(
    lines=3_000, runs=1, answers=300, open_users=200, days=12, daily_users=20, rounds=1, users=2_000, movies=300
)


def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *parts: str) -> dict[str, float]:
    tiny = replace(TELEMETRY, quick=TINY, work=tmp_path / "work")
    monkeypatch.setattr(telemetry_benchmark, "TELEMETRY", tiny)
    arguments = [text for part in parts for text in ("--part", part)]
    output = CliRunner().invoke(commands.bench, ["telemetry", "--quick", *arguments])
    assert output.exit_code == 0, output.exception
    assert list((tmp_path / "work").iterdir()) == []
    return dict(orjson.loads(output.stdout.splitlines()[-1])["figures"])


def test_every_part_but_kafka_measures_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = measured(tmp_path, monkeypatch, "columns", "archive", "report", "memory", "days")
    assert (figures["report_answers"], figures["report_starts"]) == (300, 1_500)
    assert all(value > 0 for value in figures.values())
    assert set(figures) == {name for name in TELEMETRY.targets if not name.startswith("kafka_")} | {
        "disk_bytes_per_user", "report_answers", "report_starts", "report_cpu_s", "report_peak_mib",
    }  # fmt: skip


def test_telemetry_reads_from_kafka_what_the_simple_programs_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faststream")
    figures = measured(tmp_path, monkeypatch, "kafka")
    assert set(figures) == {
        "kafka_telemetry_lines_per_s", "kafka_aiokafka_lines_per_s", "kafka_faststream_lines_per_s",
        "kafka_telemetry_cost_ratio",
    }  # fmt: skip


def test_the_simple_join_counts_starts_of_listed_movies() -> None:
    join = SimpleJoin()
    join.take(
        [
            b"2022-03-18T06:12:46,1,recommendation request host:8082, status 200, result: a+2001, b+2002, 13 ms",
            b"2022-03-18T06:12:46,2,recommendation request host:8082, status 0, result: Request timeout, 800 ms",
            b"2022-03-18T06:12:47,1,GET /data/m/b+2002/0.mpg",
            b"2022-03-18T06:13:47,1,GET /data/m/b+2002/1.mpg",
            b"2022-03-18T06:12:47,2,GET /data/m/b+2002/0.mpg",
            b"2022-03-18T06:12:48,1,GET /rate/b+2002=3",
        ]
    )
    assert (join.lines, join.answers, join.hits) == (6, 1, 1)
