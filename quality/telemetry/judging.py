"""Judges a batch by the very functions of the collector, so that telemetry counts the lines that the archive counts.

Two things can differ. A movie or user that the APIs deny only later is judged by the catalogue of that moment; and the
collector asks the APIs, where telemetry knows what was asked. Final reports are therefore made of the archive.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from quality.catalog import Catalog, KnownIds
from quality.lines.context_checks import make_context
from quality.lines.verdicts import Verdicts, judge
from quality.settings import QualitySettings
from quality.telemetry.batch import PartitionLines
from quality.telemetry.store import WaitingRecord
from stream.clock import CLOCK_AHEAD, ClockLimit
from stream.event import KINDS, Kind
from stream.settings import StreamSettings
from stream.tables import EVENT_SCHEMAS
from stream.zone import LATEST_MS, zone_named

_KAFKA_TIME = pa.field("kafka_time", pa.timestamp("ms", tz="UTC"))
_NO_EVENTS: dict[Kind, pa.Table] = {kind: EVENT_SCHEMAS[kind].append(_KAFKA_TIME).empty_table() for kind in KINDS}


@dataclass
class JudgedLines:
    """The lines of a batch, judged."""

    events: dict[Kind, pa.Table]
    """By kind: the accepted and repaired lines, `EVENT_SCHEMAS` with the column `kafka_time`."""
    left_out: Counter[tuple[int, str]] = field(default_factory=Counter)
    """Refused lines by day (of Kafka's time) and reason, without those ahead of the clock that may be confirmed."""
    ahead: list[WaitingRecord] = field(default_factory=list)
    """Lines ahead of the stream's clock."""
    first_times: dict[int, int] = field(default_factory=dict)
    """By partition with events: Kafka's time of the one with the lowest offset, ms UTC."""


class LineJudge:
    """Judges the lines of batches."""

    def __init__(self, streaming: StreamSettings, quality: QualitySettings) -> None:
        self._streaming, self._quality = streaming, quality
        self._zone = zone_named(streaming.timezone)
        self._catalog = Catalog(streaming.var)
        self._known: tuple[tuple[tuple[int, int], ...], KnownIds] | None = None

    def judge(self, pieces: Iterable[PartitionLines], limit: ClockLimit | None) -> JudgedLines:
        """Judge lines by the rules, the catalogue and the stream's clock (`limit`; None: no line is ahead).

        Raises `RecordsError` if the catalogue cannot be read.
        """
        judged = JudgedLines({})
        kept = {kind: [none] for kind, none in _NO_EVENTS.items()}
        context = replace(make_context(self._streaming, self._quality, self._known_ids()), clock=limit)
        for piece in pieces:
            apart = piece.lines.clocks_apart_ms(context) is not None
            verdicts = judge(piece.lines, replace(context, ahead_ms=None) if apart else context)
            for kind, events in verdicts.kept.items():
                kafka_times = pa.array(piece.lines.kafka_times[events.rows]).cast(_KAFKA_TIME.type)
                kept[kind].append(events.table.append_column(_KAFKA_TIME, kafka_times))
            rows = np.concatenate([events.rows for events in verdicts.kept.values()])
            if len(rows):
                first = rows[np.argmin(piece.offsets[rows])]
                judged.first_times[piece.partition] = int(piece.lines.kafka_times[first])
            self._leave_out(judged, piece, verdicts)
        judged.events = {kind: pa.concat_tables(tables).unify_dictionaries() for kind, tables in kept.items()}
        return judged

    def _leave_out(self, judged: JudgedLines, piece: PartitionLines, verdicts: Verdicts) -> None:
        times = piece.lines.kafka_times[verdicts.quarantined]
        # a time that is none at all (outside the years 2000 to 2099) is never confirmed
        waits = (np.array(verdicts.reasons, object) == CLOCK_AHEAD) & (times < LATEST_MS)
        reasons = [reason for reason, is_ahead in zip(verdicts.reasons, waits, strict=True) if not is_ahead]
        judged.left_out.update(zip(self._zone.day_number(times[~waits]).tolist(), reasons, strict=True))
        for row in verdicts.quarantined[waits].tolist():
            judged.ahead.append(
                WaitingRecord(
                    partition=piece.partition,
                    offset=int(piece.offsets[row]),
                    kafka_time=int(piece.lines.kafka_times[row]),
                    behind=0,
                    line=piece.lines.values[row].as_py(),
                )
            )

    def _known_ids(self) -> KnownIds:
        """What the catalogue holds, read again when it has changed."""
        state = self._catalog.state()
        if self._known is None or self._known[0] != state:
            self._known = state, self._catalog.known(self._streaming.max_user)
        return self._known[1]
