"""Which partition a line is copied to, and in which order partitions are read; tests/integration copies real topics."""

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from stream.__main__ import commands
from stream.grammar import LineRefused, parse
from stream.kafka import FetchedRecords
from stream.repartition import Pace, partition_of, user_key
from tests.stream.conftest import NEW_YORK, good_lines


@given(good_lines)
def test_the_key_of_a_line_is_its_user(line: bytes) -> None:
    assert user_key(line) == str(parse(line, NEW_YORK).user).encode()


@given(good_lines, st.integers(0, 10), st.sampled_from(b"aZ .:\xff\x00-"))
def test_a_stray_character_in_the_user_changes_no_key(line: bytes, place: int, stray: int) -> None:
    time, user, request = line.split(b",", 2)
    damaged = user[:place] + bytes([stray]) + user[place:]
    assert user_key(b",".join([time, damaged, request])) == user


@pytest.mark.parametrize(
    "line", [b"", b",", b"2022-10-07T13:44", b"2022-10-07T13:44,,GET", b"2022-10-07T13:44,0,GET", b"x,12345678901,y"]
)
def test_a_line_without_a_user_has_no_key(line: bytes) -> None:
    assert user_key(line) is None
    with pytest.raises(LineRefused):
        parse(line, NEW_YORK)


@pytest.mark.parametrize(("key", "hashed"), [(b"21", -973932308), (b"foobar", -790332482), (b"abc", 479470107)])
def test_keys_go_where_kafkas_own_client_puts_them(key: bytes, hashed: int) -> None:
    # the hashes are those of Kafka's own test, UtilsTest.testMurmur2
    assert [partition_of(key, count) for count in (1, 7, 12)] == [(hashed & 0x7FFFFFFF) % n for n in (1, 7, 12)]


def records(partition: int, *times: int) -> FetchedRecords:
    return FetchedRecords(partition, [b""] * len(times), np.arange(len(times)), 1_600_000_000_000 + np.array(times))


def test_the_partition_with_the_oldest_lines_is_read_next() -> None:
    pace = Pace()
    assert pace.behind({0: 5, 1: None, 2: 0}) == [0]
    pace.polled(records(0, 1000, 2000))
    assert pace.behind({0: 3, 1: None, 2: 0}) == [1]
    pace.polled(records(1, 10, 20))
    assert pace.behind({0: 3, 1: 5, 2: 0}) == [1]
    pace.polled(records(1, 30, 3_000, 50))  # one wrong time means nothing
    assert pace.behind({0: 3, 1: 2, 2: 0}) == [1]
    assert pace.behind({0: 3, 1: 0, 2: 0}) == [0]
    assert pace.behind({0: 0, 1: 0, 2: 0}) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing argument 'TARGET'"),
        (["copy", "--from", "7"], "'7' is no partition and offset, such as 0:1234"),
        (["copy", "--from", "0:-1"], "'0:-1' is no partition and offset"),
        (["copy", "--from", "0:1", "--from", "0:2"], "--from names a partition twice"),
        (["copy", "--partitions", "0"], "0 is not in the range"),
    ],
)
def test_wrong_arguments_are_named(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(commands, ["repartition", *arguments])
    assert done.exit_code == 2
    assert said in done.stderr
