"""Lines as Kafka delivers them, a collector that takes them, and what its files hold."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from batch.collecting.collector import Collector, PendingLines
from batch.settings import BatchSettings
from quality.alerts.webhook import Poster
from quality.lines.context_checks import JudgingContext
from quality.lines.schemas import event_schemas
from quality.lines.verdicts import ParsedLines
from quality.settings import QualitySettings, Threshold, Thresholds
from stream.kafka import FetchedRecords, RetentionGap
from stream.ledger_entry import LedgerEntry
from stream.settings import StreamSettings
from stream.tables import ARCHIVE_SCHEMAS, QUARANTINE_SCHEMA
from stream.zone import DAY_MS, HOUR_MS, zone_named

NOW = 1_665_150_000_000  # 2022-10-07T09:40 in New York
CLOCK = zone_named("America/New_York")
TOPIC = "movielog1"
LINES = [
    b"2022-10-07T09:40,5,GET /data/m/aliens+1986/5.mpg",
    b"2022-10-07T09:40,x5,GET /data/m/aliens+1986/5.mpg",
    b"2022-10-07T09:40,5,GET /data/m/aliens+1986/05.mpg",
    b"2022-10-06T23:59:59,7,GET /rate/endeavour+=3",
    b"2022-10-07T23:59:59,7,GET /rate/endeavour+=9",
    b"2022-10-07T09:40:03,9,GET /create_account",
    b"2022-10-07T09:40:03.123,9,recommendation request a:1, status 200, result: aliens+1986, endeavour+, 5 ms",
    b"2022-10-07T09:40:03.123,9,recommendation request a:1, status 0, result: timed out, 801 ms",
    b"",
    b"\xff\x00",
    b"2022-10-07T09:460,5,GET /data/m/aliens+1986/7.mpg",
]


HELD = JudgingContext(CLOCK, event_schemas(StreamSettings()), 1_000_000, HOUR_MS, DAY_MS)


def held(_: ParsedLines) -> JudgingContext:
    return HELD


def streaming(var: Path, **more: Any) -> StreamSettings:
    return StreamSettings(var=var, **more)


def collector_of(
    var: Path, quality: QualitySettings | None = None, poster: Poster | None = None, **more: Any
) -> Collector:
    """A collector that knows no movies, so it requests nothing from the API."""
    settings = BatchSettings(api="http://127.0.0.1:1", api_timeout_s=0.2)
    return Collector(streaming(var, **more), quality or QualitySettings(), settings, poster)


def fetched(lines: list[bytes], first: int = 0, partition: int = 0, step: int = 1) -> FetchedRecords:
    """Lines at the offsets from `first` on, `step` apart; every tenth comes to Kafka on the next day."""
    offsets = np.arange(first, first + len(lines) * step, step, dtype=np.int64)
    return FetchedRecords(partition, lines, offsets, NOW + (offsets % 10 == 9) * 20 * HOUR_MS)


def pending(*pieces: FetchedRecords, first: int = 0) -> PendingLines:
    waiting = PendingLines(first)
    for piece in pieces:
        waiting.add(piece)
    return waiting


Row = dict[str, Any]  # of events of any kind, or of the quarantine


def rows_of(var: Path, entry: LedgerEntry) -> list[Row]:
    """All rows of a batch's files, each with the file it lies in."""
    rows = []
    for file in entry.files:
        table = pq.ParquetFile(var / file.path).read()
        assert table.num_rows == file.rows > 0
        kind = Path(file.path).parts[-3]
        schema = QUARANTINE_SCHEMA if kind == "quarantine" else ARCHIVE_SCHEMAS[kind]  # type: ignore[index]
        assert table.schema.equals(schema)
        plain = table.set_column(
            table.schema.get_field_index("kafka_time"), "kafka_time", milliseconds(table, "kafka_time")
        )
        if "time" in table.column_names:
            plain = plain.set_column(0, "time", milliseconds(table, "time"))
        rows += [{**row, "in": file.path} for row in plain.to_pylist()]
    return rows


def milliseconds(table: pa.Table, name: str) -> pa.ChunkedArray:
    return table.column(name).cast(pa.int64())


def run(
    collector: Collector, *polls: list[FetchedRecords | RetentionGap], only_due: bool = False, flush: bool = True
) -> dict[int, int]:
    async def all_of_it() -> dict[int, int]:
        for got in polls:
            await collector.take(got)
        return await collector.flush(only_due) if flush else {}

    return asyncio.run(all_of_it())


def alerts(var: Path) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in (var / "alerts.jsonl").read_bytes().splitlines()]


STRICT = QualitySettings(thresholds=Thresholds(quarantined=Threshold(share=0.01, count=1)))
