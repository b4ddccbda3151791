"""The quarantine: every line in it is listed with its reason, and can be explained."""

import msgspec
import pytest

from quality.errors import QuarantineError
from quality.lines.quarantine import LineExplanation, explain, quarantined_lines
from stream.archive import Archive
from tests.ledger_entries import TOPIC
from tests.quality.lines.collected_batches import BEFORE, CLOCK, LINES, collected, rows_of


def test_quarantined_lines_are_listed_with_id_reason_time_and_bytes(archive: Archive) -> None:
    collected(archive, LINES)
    aside = list(quarantined_lines(archive))
    expected = [row for _, row in sorted(rows_of(archive).items()) if row[0] == "quarantined"]
    assert [(line.id, line.reason, line.raw, line.kafka_time) for line in aside] == [
        (f"{TOPIC}-3:{row[6]}", row[1], row[3], row[7]) for row in expected
    ]
    assert len(aside) > 8


def test_the_list_is_sorted_by_entry_and_offset(archive: Archive) -> None:
    collected(archive, LINES, first=100)
    collected(archive, LINES[9:], partition=1)
    ids = [line.id for line in quarantined_lines(archive)]
    places = [tuple(map(int, name.removeprefix(f"{TOPIC}-").split(":"))) for name in ids]
    assert places == sorted(places)
    assert {partition for partition, _ in places} == {1, 3}


def test_the_list_can_be_limited_to_a_kafka_day_and_a_reason(archive: Archive) -> None:
    collected(archive, LINES)
    everything = list(quarantined_lines(archive))
    for day in ("2022-10-07", "2022-10-08", "2022-10-09"):
        for reason in (None, "user_unknown", "movie_unknown", "no_such_reason"):
            expected = [
                line for line in everything if CLOCK.day(line.kafka_time) == day and reason in (None, line.reason)
            ]
            assert list(quarantined_lines(archive, day, reason)) == expected


def test_an_archive_without_a_quarantine_lists_nothing(archive: Archive) -> None:
    assert list(quarantined_lines(archive)) == []
    collected(archive, LINES[:1])
    assert list(quarantined_lines(archive)) == []


def test_a_line_is_explained_with_all_its_readings(archive: Archive) -> None:
    collected(archive, LINES)
    [line] = [line for line in quarantined_lines(archive) if line.raw == LINES[9]]
    explanation = msgspec.to_builtins(explain(archive, line.id, BEFORE))
    expected = {
        "id": line.id,
        "reason": "minute",
        "detail": "minute: '05.mpg'",
        "raw": LINES[9].decode(),
        "kafka_time_ms": line.kafka_time,
        "could_mean": [
            "2022-10-07T09:40,5,GET /data/m/a+1984/0.mpg",
            "2022-10-07T09:40,5,GET /data/m/a+1984/5.mpg",
        ],
    }
    assert list(explanation.items()) == list(expected.items())


def test_lines_of_any_bytes_can_be_explained(archive: Archive) -> None:
    collected(archive, [*LINES, b"\xf0\x9f\x98\x80" * 9, b"\n\r\x1b[31m", b"9" * 70_000])
    for line in quarantined_lines(archive):
        explanation = explain(archive, line.id, BEFORE)
        assert (explanation.id, explanation.reason) == (line.id, line.reason)
        assert msgspec.json.decode(msgspec.json.encode(explanation), type=LineExplanation) == explanation


@pytest.mark.parametrize("name", ["", "nonsense", "movielog1-3:1", "movielog1-3:", "other-3:4", "movielog1-3:4 "])
def test_an_unknown_id_is_an_error_that_names_it(archive: Archive, name: str) -> None:
    collected(archive, LINES)
    with pytest.raises(QuarantineError, match="no line"):
        explain(archive, name, BEFORE)
