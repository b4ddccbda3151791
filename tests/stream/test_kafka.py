"""The reader's arithmetic of offsets, with a scripted Kafka client; tests/integration reads real brokers."""

import asyncio
from collections.abc import Mapping
from typing import cast

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, LeaderNotAvailableError, OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord

from stream import kafka
from stream.errors import BrokerError, KafkaSilent, StreamError, TopicRemade
from stream.kafka import FetchedRecords, Reader, RetentionGap
from stream.record_mark import RecordMark
from stream.settings import StreamSettings
from stream.stalled_partitions import StalledPartitions
from stream.topic_check import TopicCheck


class AsBefore(TopicCheck):
    """Every topic is the one that was read."""

    async def differs(self, marks: Mapping[int, RecordMark]) -> str | None:
        return ""


def reader_of(client: "ScriptedClient", settings: StreamSettings) -> Reader:
    consumer = cast(AIOKafkaConsumer, client)
    return Reader(consumer, settings, AsBefore(consumer, settings.topic))


TP = TopicPartition("movielog1", 0)


def record(offset: int) -> ConsumerRecord:
    return ConsumerRecord("movielog1", 0, offset, 1_000 + offset, 0, None, b"line", None, -1, 4, ())


class ScriptedClient:
    """One partition: committed records at 0 and 1, aborted ones at 2 and 3, the end of the transaction at 4, and those
    of an open one from 5 up to the end."""

    def __init__(self, end: int = 5) -> None:
        self._end, self._polls, self._answers = end, [{TP: [record(0), record(1)]}], 0

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {0}

    def assignment(self) -> set[TopicPartition]:
        return {TP}

    async def getmany(self, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        self._answers += 1
        return self._polls.pop() if self._polls else {}

    async def position(self, tp: TopicPartition) -> int:
        return 2 if self._polls else 5

    def highwater(self, tp: TopicPartition) -> int:
        return self._end

    def last_stable_offset(self, tp: TopicPartition) -> int:
        return 5

    def last_poll_timestamp(self, tp: TopicPartition) -> int:
        return self._answers

    async def end_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, 5)


@pytest.mark.parametrize(("end", "unread"), [pytest.param(5, 0, id="aborted"), pytest.param(9, 4, id="then open")])
def test_aborted_records_are_read_and_those_of_an_open_transaction_are_not(end: int, unread: int) -> None:
    async def read() -> None:
        reader = reader_of(ScriptedClient(end), StreamSettings(stall_seconds=1e-9))
        [records] = await reader.poll(10)
        assert isinstance(records, FetchedRecords)
        assert records.offsets.tolist() == [0, 1]
        assert reader.positions == {0: 5}
        assert await reader.poll(10) == []  # long silent, but nothing that could be read waits
        assert reader.unread() == {0: unread}

    asyncio.run(read())


class Growing(ScriptedClient):
    """A topic that has one partition at first, and then three; it notes from where each is read."""

    def __init__(self) -> None:
        super().__init__()
        self.partitions, self.read_from = {0}, dict[int, int]()

    def partitions_for_topic(self, topic: str) -> set[int]:
        return self.partitions

    async def beginning_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: 40 + tp.partition for tp in tps}

    def assign(self, tps: list[TopicPartition]) -> None:
        self.read_from = dict.fromkeys((tp.partition for tp in tps), -1)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.read_from[tp.partition] = offset


def test_added_partitions_are_read_from_their_beginning_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read() -> None:
        client = Growing()
        reader = reader_of(client, StreamSettings())
        await reader.poll(10)
        client.partitions = {0, 1, 2}
        await reader.poll(10)
        assert client.read_from == {}  # not yet looked at
        monkeypatch.setattr(kafka, "_METADATA_S", 0.0)
        await reader.poll(10)
        assert client.read_from == {0: 5, 1: 41, 2: 42}

    asyncio.run(read())


class Remembering(AsBefore):
    """Notes the partitions that are asked for."""

    def __init__(self, topic: str) -> None:
        super().__init__(cast(AIOKafkaConsumer, None), topic)
        self.asked: list[list[int]] = []

    async def differs(self, marks: Mapping[int, RecordMark]) -> str | None:
        self.asked.append(sorted(marks))
        return await super().differs(marks)


def test_one_partition_in_turn_speaks_for_all_before_a_commit() -> None:
    async def read() -> None:
        check = Remembering("movielog1")
        reader = Reader(cast(AIOKafkaConsumer, Growing()), StreamSettings(), check)
        mark = RecordMark.of(7, 1_000, b"line")
        reader._marks = {0: mark, 1: mark, 2: mark}
        for _ in range(4):
            assert await reader.verify()
        assert await reader.verify(whole=True)
        assert check.asked == [[0], [1], [2], [0], [0, 1, 2]]

    asyncio.run(read())


class PastRetention(Growing):
    """Retention has dropped what would be read next: the beginning is 40."""

    async def getmany(self, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        raise OffsetOutOfRangeError({TP: 5})


class Unanswered(AsBefore):
    """Kafka answers no check until it is told to."""

    answer: str | None = None

    async def differs(self, marks: Mapping[int, RecordMark]) -> str | None:
        return self.answer


def test_a_gap_is_none_before_kafka_confirms_that_the_topic_is_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read() -> None:
        check = Unanswered(cast(AIOKafkaConsumer, None), "movielog1")
        reader = Reader(cast(AIOKafkaConsumer, PastRetention()), StreamSettings(), check)
        reader.positions = {0: 5}
        assert await reader.poll(10) == []
        at_once = reader.out_of_reach
        monkeypatch.setattr(kafka, "SILENT_S", 0.0)
        assert (at_once, reader.out_of_reach) == (False, True)
        check.answer = ""
        assert await reader.poll(10) == [RetentionGap(0, 5, 39)]

    asyncio.run(read())


def test_a_gap_that_is_never_confirmed_is_an_error() -> None:
    async def read() -> None:
        settings = StreamSettings(bootstrap="127.0.0.1:1", stall_seconds=1e-9)
        check = Unanswered(cast(AIOKafkaConsumer, None), "movielog1")
        reader = Reader(cast(AIOKafkaConsumer, PastRetention()), settings, check)
        with pytest.raises(KafkaSilent):
            await reader.poll(10)

    asyncio.run(read())


class MadeAnew(AsBefore):
    """The topic is another one, and Kafka does not answer how many records it has."""

    async def differs(self, marks: Mapping[int, RecordMark]) -> str | None:
        return "offset 7 of partition 0 holds another record"

    async def read_before(self, positions: Mapping[int, int]) -> int:
        raise KafkaError("no answer")


@pytest.mark.parametrize("partitions_known", [True, False])
def test_a_topic_made_anew_is_said_also_if_its_records_cannot_be_counted(
    partitions_known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def partitions_of(settings: StreamSettings) -> list[int]:
        if not partitions_known:
            raise BrokerError("no answer")
        return [0]

    async def read() -> None:
        check = MadeAnew(cast(AIOKafkaConsumer, None), "movielog1")
        with pytest.raises(TopicRemade, match="another record; an unknown number of its records lie where"):
            await Reader(cast(AIOKafkaConsumer, Growing()), StreamSettings(), check).verify()

    monkeypatch.setattr(kafka, "partitions_of", partitions_of)
    asyncio.run(read())


class Standing(Growing):
    """Two partitions: 0 goes on with every poll, and the client does not fetch 1, of which Kafka tells an end."""

    end: int | None = 90

    def __init__(self) -> None:
        super().__init__()
        self.partitions, self.polls = {0, 1}, 0

    def assignment(self) -> set[TopicPartition]:
        return {TopicPartition("movielog1", partition) for partition in self.partitions}

    async def position(self, tp: TopicPartition) -> int:
        return 40 if tp.partition else self.polls

    async def getmany(self, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        self.polls += 1
        self._answers += 1
        return {TP: [record(self.polls - 1)]}

    def highwater(self, tp: TopicPartition) -> int:
        return 90

    def last_stable_offset(self, tp: TopicPartition) -> int:
        return 40

    async def end_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        if self.end is None:
            raise LeaderNotAvailableError
        return dict.fromkeys(tps, self.end)


def polled(client: Standing, times: int, stall_seconds: float = 1e-9) -> None:
    async def read() -> None:
        reader = reader_of(client, StreamSettings(stall_seconds=stall_seconds, bootstrap="127.0.0.1:1"))
        for poll in range(times):
            [records] = await reader.poll(10)
            assert isinstance(records, FetchedRecords)
            assert records.offsets.tolist() == [poll]

    asyncio.run(read())


def test_a_partition_that_stands_still_is_fetched_anew_and_then_an_error(caplog: pytest.LogCaptureFixture) -> None:
    client = Standing()
    polled(client, 2)
    assert client.read_from == {0: 2, 1: 40}
    assert "partition 1 of movielog1 stands at offset 40, but Kafka has records up to 90: it is" in caplog.text
    with pytest.raises(StreamError, match="partition 1 of movielog1 has records from offset 40 on, but none came"):
        polled(Standing(), 3)
    polled(Standing(), 3, stall_seconds=60)


@pytest.mark.parametrize(
    ("end", "said"), [pytest.param(40, 1, id="open transaction"), pytest.param(None, 0, id="no leader")]
)
def test_a_partition_that_cannot_be_read_yet_ends_nothing(
    end: int | None, said: int, caplog: pytest.LogCaptureFixture
) -> None:
    client = Standing()
    client.end = end
    polled(client, 9)
    assert client.read_from == {}
    assert caplog.text.count("partition 1 of movielog1: an open transaction holds 50 records back") == said


def test_a_partition_that_goes_on_may_stand_still_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    stalls = StalledPartitions("movielog1", 10.0)
    for position in (4, 7):
        stalls.polled({0: position, 1: 5}, 1.0)
        stalls.polled({0: position, 1: 6 + position}, 9.9)
        assert stalls.due() == []
        stalls.polled({0: position, 1: 6 + position}, 0.1)
        assert stalls.due() == [0]
        assert stalls.judge({0: 9}, {0: 9 - position})
        assert stalls.due() == []
    assert [record.message for record in caplog.records].count("partition 0 of movielog1 goes on") == 1
    stalls.polled({0: 7, 1: 13}, 10.0)
    with pytest.raises(StreamError, match="from offset 7 on"):
        stalls.judge({0: 9, 1: 13}, {0: 2, 1: 0})


def test_a_partition_that_lost_its_leader_meanwhile_is_fetched_anew_once_more() -> None:
    stalls = StalledPartitions("movielog1", 10.0)
    stalls.polled({0: 4}, 1.0)
    assert stalls.judge({0: 9}, {0: 5})
    assert not stalls.judge({0: None}, {0: 5})
    assert stalls.judge({0: 9}, {0: 5})


class Late(Standing):
    """The broker tells an end that is too early; a fetch has told a later one."""

    end = 40

    def last_stable_offset(self, tp: TopicPartition) -> int:
        return 41


def test_what_a_fetch_says_of_the_end_counts_as_well(caplog: pytest.LogCaptureFixture) -> None:
    polled(Late(), 2)
    assert "partition 1 of movielog1 stands at offset 40, but Kafka has records up to 41: it is" in caplog.text
