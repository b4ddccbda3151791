"""What must hold of a world however it is read, and the smallest world in which it does not.

A world is driven twice: all its lines in one partition and at once, and as its seed has it: in its partitions, in small
batches, with crashes and records that are delivered again.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from quality.telemetry.day_report import DayReport
from quality.telemetry.day_verdict import DayCheck
from stream.archive import Archive
from stream.event import Event
from stream.grammar import LineRefused, parse
from stream.ledger_clock import stream_time
from stream.zone import zone_named
from tests.quality.telemetry_reference.cheap_worlds import cheap_worlds
from tests.quality.telemetry_reference.drive import (
    archived_lines,
    collect,
    reports_of_archive,
    reports_of_store,
    run_both,
    written_reports,
)
from tests.quality.telemetry_reference.reference import (
    Figures,
    Line,
    figures_by_day,
    hit_rate,
    mean_reciprocal_rank,
    without_copies,
)
from tests.quality.telemetry_reference.schedules import Schedule
from tests.quality.telemetry_reference.worlds import RecordedWorld

_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""A folder in memory, where there is one: a disk takes longer to remove files than a world to write them."""


@dataclass(frozen=True)
class Archived:
    """What came of a world that was collected in one way."""

    name: str
    lines: list[Line]
    """The lines that its archive counts."""
    figures: dict[str, Figures]
    """By day that is over: what its final report must say."""
    reports: dict[str, DayReport]
    """By day that is over: its final report, made from the archive."""
    has_clocks_apart: bool
    """Whether the times of some batch were not compared with Kafka's, since most of its lines came much later."""

    @classmethod
    def of(cls, name: str, world: RecordedWorld, var: Path, days: Iterable[str] = ()) -> "Archived":
        """What the archive below `var` has; `days` have reports in any case, if they are over."""
        lines, entries, rules = archived_lines(var), Archive(var).entries(), world.settings.rules()
        reached = stream_time(entries) or 0
        figures = figures_by_day(lines, rules)
        over = {day: shown for day, shown in figures.items() if rules.closing(day) + rules.grace_ms <= reached}
        has_clocks_apart = any(entry.clocks_apart_ms is not None for entry in entries)
        return cls(name, lines, over, reports_of_archive(world, var, {*figures, *days}), has_clocks_apart)


def disagreements(world: RecordedWorld, seed: int) -> list[str]:
    """What differs, one line each; none for a world that is as it must be. `seed` disturbs the second drive."""
    with tempfile.TemporaryDirectory(prefix="marquee-world-", dir=_MEMORY) as folder, cheap_worlds():
        plain_var, var = Path(folder) / "plain", Path(folder) / "disturbed"
        plain_world = world if world.gaps else world.in_one_partition()
        collect(plain_world, Schedule(), plain_var)
        plain = Archived.of("at once", plain_world, plain_var)
        run_both(world, seed, var)
        written = written_reports(var)
        disturbed = Archived.of("disturbed", world, var, written)
        clear = list(_clear_days(world, disturbed))
        stored = reports_of_store(world, Schedule(seed + 2), var, clear) if clear else {}
    found = [*_against_reference(plain), *_against_reference(disturbed), *_archives(world, plain, disturbed)]
    if set(without_copies(plain.lines)) == set(without_copies(disturbed.lines)):
        found += _differences("read at once", _of_figures(plain), "disturbed", _of_figures(disturbed))
    found += _differences("written by telemetry", written, "made of the archive", disturbed.reports)
    of_the_archive = {day: msgspec.structs.replace(disturbed.reports[day], notes=[]) for day in clear}
    of_the_store = {day: msgspec.structs.replace(report, notes=[]) for day, report in stored.items()}
    found += _differences("of the store", of_the_store, "of the archive", of_the_archive)
    return found


def _of_figures(archived: Archived) -> dict[str, DayReport]:
    """The reports of days that have lines."""
    return {day: archived.reports[day] for day in archived.figures}


def _clear_days(world: RecordedWorld, archived: Archived) -> Iterator[str]:
    """The days of which the store must have the figures of the archive, if all lines are read before it is asked.

    It has no Kafka times, so a line that came after the closing of an earlier day counts for that as well, and a line
    that came too late for its own day counts nowhere. Of lines with copies, batches decide which one counts.
    """
    rules = world.settings.rules()
    if archived.has_clocks_apart or _copied(world) or any(rules.is_late(line) for line in archived.lines):
        return
    for day in archived.figures:
        closing = rules.closing(day)
        if all(line.kafka_time < closing for line in archived.lines if line.event.time <= closing - rules.grace_ms):
            yield day


def _against_reference(archived: Archived) -> Iterator[str]:
    """Where final reports differ from the reference."""
    for day, figures in archived.figures.items():
        for what, reported, right in _compared(archived.reports[day], figures):
            if reported not in right:
                yield f"{day}, read {archived.name}: {what}: {reported}, must be {' or '.join(map(str, right))}"


def _compared(report: DayReport, figures: Figures) -> Iterator[tuple[str, object, Sequence[object]]]:
    """By figure: what a report has, and what is right."""
    total = report.total
    hits = {rank: hits for rank, hits in enumerate(total.hits_by_rank, 1) if hits}
    yield (
        "requests",
        {int(status): count for status, count in total.answers.by_status.items()},
        [figures.requests],
    )
    yield "closed", total.answers.closed, [figures.closed]
    yield "provisional", total.answers.provisional, [0]
    yield "hits by rank", hits, figures.possible_hits
    yield "hits", total.hits, [sum(hits.values())]
    yield "hit rate", total.hit_rate.mean, [_nearly(hit_rate(hits, figures.closed))]
    yield (
        "mean reciprocal rank",
        total.mean_reciprocal_rank,
        [_nearly(mean_reciprocal_rank(hits, figures.closed))],
    )
    late = {f"late_{kind}": lines for kind, lines in figures.late.items() if kind != "account"}
    yield "late", _late(report), [late]  # accounts are in no figure at all


def _nearly(value: float | None) -> object:
    return None if value is None else pytest.approx(value)


def _differences(
    name: str, reports: Mapping[str, DayReport], other_name: str, others: Mapping[str, DayReport]
) -> Iterator[str]:
    """Where reports of the same days differ.

    Of lines that are left out only late ones are compared: for others it depends on batches whether a copy is one more
    of them.
    """
    for day in sorted(reports.keys() | others.keys()):
        one, other = reports.get(day), others.get(day)
        if one is None or other is None:
            yield f"{day}: no report {name if one is None else other_name}, but {one or other}"
            continue
        own, theirs = msgspec.to_builtins(one), msgspec.to_builtins(other)
        own["left_out"], theirs["left_out"] = _late(one), _late(other)
        own["verdict"], theirs["verdict"] = _checks_of_answers(one), _checks_of_answers(other)
        for field in own:
            if own[field] != theirs[field]:
                yield f"{day}: {field} {name}: {own[field]}, {other_name}: {theirs[field]}"


def _checks_of_answers(report: DayReport) -> list[DayCheck]:
    """The checks of a verdict but for those of left out lines: the store does not know how many lines a day has."""
    return [check for check in report.verdict.checks if check.name not in ("left_out", "late")]


def _late(report: DayReport) -> dict[str, int]:
    """By reason: the lines that were left out since they were late."""
    return {reason: lines for reason, lines in report.left_out.by_reason.items() if reason.startswith("late_")}


def _archives(world: RecordedWorld, plain: Archived, disturbed: Archived) -> Iterator[str]:
    """Which lines the archives count differently, other than those that depend on the borders of batches.

    These are lines of a batch of which most came late, and lines that have copies: of copies in one batch the first
    counts, whatever its Kafka time and its fate.
    """
    if plain.has_clocks_apart or disturbed.has_clocks_apart:
        return
    own, other = set(without_copies(plain.lines)), set(without_copies(disturbed.lines))
    copied = _copied(world)
    for archived, lines in ((plain, own - other), (disturbed, other - own)):
        for line in sorted(lines, key=str):
            if _subject(line.event) not in copied:
                yield f"archive: counted only when read {archived.name}: {line}"


def _copied(world: RecordedWorld) -> set[object]:
    """What the lines are about that several records hold."""
    zone, subjects = zone_named(world.settings.timezone), set()
    for value, count in Counter(record.value for record in world.records).items():
        if count > 1:
            with suppress(LineRefused):
                subjects.add(_subject(parse(value, zone)))
    return subjects


def _subject(event: Event) -> object:
    return event.kind, event.user, event.movie, event.movies


def shrink(world: RecordedWorld, fails: Callable[[RecordedWorld], bool]) -> RecordedWorld:
    """A world that still fails, from which no single record can be removed, nor half of them, a quarter, …"""
    size = len(world.records) // 2
    while size:
        world, before = _without_runs(world, size, fails), world
        if size == 1 and len(world.records) == len(before.records):
            return world
        size = max(1, size // 2)
    return world


def _without_runs(world: RecordedWorld, size: int, fails: Callable[[RecordedWorld], bool]) -> RecordedWorld:
    """The world without as many runs of so many records as it can miss."""
    runs = [world.records[first : first + size] for first in range(0, len(world.records), size)]
    for run in runs:
        smaller = world.without(set(run))
        if smaller.records and fails(smaller):
            world = smaller
    return world
