"""How the records of a world reach a process: in which polls, and what happens in between.

A `Schedule` without a seed reads each partition at once. One with a seed polls few records of one partition after
another, is sometimes delivered records again, and throws the process away now and then: after a commit, as when its
partitions are handed to another reader, or in the middle of a batch, as when it is killed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal

from stream.kafka import FetchedRecords, RetentionGap
from tests.quality.telemetry_reference.worlds import Record, RecordedWorld, fetched, position

Polled = list[FetchedRecords | RetentionGap]
Action = Literal["commit", "hand over", "crash"]
_MOST_DEATHS = 3


class WorldReader:
    """Reads the partitions of a world from given positions, as `stream.kafka.Reader` does."""

    def __init__(self, world: RecordedWorld) -> None:
        self._pieces = world.partitions()
        self._next = dict.fromkeys(self._pieces, 0)
        """By partition: index of the piece to read next."""

    def seek(self, positions: Mapping[int, int]) -> None:
        """Read on from these offsets; a partition without one is read from its beginning."""
        for partition, pieces in self._pieces.items():
            offset = positions.get(partition, 0)
            self._next[partition] = sum(position(piece) < offset for piece in pieces)

    def positions(self) -> dict[int, int]:
        """By partition: the offset to read next."""
        return {partition: self._offset(partition, number) for partition, number in self._next.items()}

    def _offset(self, partition: int, number: int) -> int:
        pieces = self._pieces[partition]
        if number == 0:
            return position(pieces[0])
        before = pieces[number - 1]
        return 1 + (before.last if isinstance(before, RetentionGap) else before.offset)

    def unread(self) -> list[int]:
        """The partitions that are not read to their end."""
        return [partition for partition, pieces in self._pieces.items() if self._next[partition] < len(pieces)]

    def poll(self, partition: int, most: int, again: int = 0) -> Polled:
        """The next records of a partition, at most `most`, or a gap; `again` records before them are read again."""
        pieces, first = self._pieces[partition], self._next[partition]
        if isinstance(gap := pieces[first], RetentionGap):
            self._next[partition] += 1
            return [gap]
        records: list[Record] = []
        for piece in pieces[first : first + most]:
            if isinstance(piece, RetentionGap):
                break
            records.append(piece)
        self._next[partition] += len(records)
        before = pieces[max(0, first - again) : first]
        if any(isinstance(piece, RetentionGap) for piece in before):
            before = []
        return [fetched([piece for piece in before if isinstance(piece, Record)] + records)]


@dataclass(frozen=True)
class Schedule:
    """The order in which a world is read."""

    seed: int | None = None
    """None: undisturbed."""
    redelivery: bool = True
    """Whether some records come again."""

    def steps(self, reader: WorldReader) -> Iterator[Polled | Action]:
        """What comes to the process, until all is read; after `crash` or `hand over` the caller seeks anew."""
        if self.seed is None:
            for partition in reader.unread():
                while partition in reader.unread():
                    yield reader.poll(partition, 1_000_000)
        else:
            yield from self._disturbed(reader, Random(self.seed), [0, 0, 0, 1, 20] if self.redelivery else [0])
        yield "commit"

    @staticmethod
    def _disturbed(reader: WorldReader, random: Random, again: list[int]) -> Iterator[Polled | Action]:
        most, lag = random.choice([20, 60, 300, 300]), random.choice([1, 1, 4])
        commit_share, deaths = random.choice([0.02, 0.1]), random.randint(0, _MOST_DEATHS)
        partition = random.choice(reader.unread())
        while unread := reader.unread():
            if partition not in unread or random.random() < 1 / lag:  # a large lag: one partition far ahead of others
                partition = random.choice(unread)
            yield reader.poll(partition, random.randint(1, most), random.choice(again))
            chance = random.random()
            if chance < commit_share:
                yield "commit"
            elif chance < 2 * commit_share and deaths:
                deaths -= 1
                yield random.choice(["crash", "hand over"])
