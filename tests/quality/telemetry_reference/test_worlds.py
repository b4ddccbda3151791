"""The worlds from seeds in which telemetry is compared with its reference, and that the comparison can fail."""

from dataclasses import replace
from pathlib import Path

import pytest

from stream.grammar import LineRefused, parse
from stream.zone import zone_named
from tests.quality.telemetry_reference import checks
from tests.quality.telemetry_reference.reference import Rules
from tests.quality.telemetry_reference.seeds import require_agreement
from tests.quality.telemetry_reference.simulator import make_world
from tests.quality.telemetry_reference.worlds import ReadingSettings, load, save

SEEDS_OF_FAULTS = {1031: "a damaged line ahead of the clock was never judged again"}


def test_a_reference_with_another_gap_is_contradicted(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = ReadingSettings.rules

    def with_short_gap(settings: ReadingSettings) -> Rules:
        return replace(rules(settings), gap_ms=1)

    monkeypatch.setattr(ReadingSettings, "rules", with_short_gap)
    assert any("hits by rank" in line for line in checks.disagreements(make_world(0), 0))


def test_a_seed_makes_one_world_and_another_seed_another_one() -> None:
    assert make_world(7) == make_world(7)
    assert make_world(7) != make_world(8)


@pytest.mark.parametrize("seed", SEEDS_OF_FAULTS, ids=SEEDS_OF_FAULTS.get)
def test_worlds_that_showed_a_fault_agree(seed: int, tmp_path: Path) -> None:
    require_agreement([seed], tmp_path)


@pytest.mark.parametrize("seed", range(3))
def test_a_kept_world_is_read_as_it_was(seed: int, tmp_path: Path) -> None:
    world = make_world(seed)
    save(world, tmp_path / "world.tsv")
    assert load(tmp_path / "world.tsv") == world


def test_worlds_have_lines_at_the_edges() -> None:
    """Of a hundred worlds each has its share of what the definitions tell apart."""
    late, refused, at_the_end_of_windows, gaps = 0, 0, 0, 0
    for seed in range(100):
        world = make_world(seed)
        rules, zone = world.settings.rules(), zone_named(world.settings.timezone)
        gaps += len(world.gaps)
        events = []
        for record in world.records:
            try:
                events.append(event := parse(record.value, zone))
            except LineRefused:
                refused += 1
                continue
            late += record.kafka_time >= rules.closing(rules.day_of(event.time))
        asked = {(event.user, event.time) for event in events if event.status == 200}
        ends = {(user, time + rules.window_ms + more) for user, time in asked for more in (0, 1)}
        at_the_end_of_windows += sum(event.kind == "watch" and (event.user, event.time) in ends for event in events)
    assert min(late, refused, at_the_end_of_windows, gaps) > 10
