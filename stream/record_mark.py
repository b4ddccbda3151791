"""How a record is recognised: by its offset, Kafka's time, and a digest of its bytes."""

from hashlib import blake2b

import msgspec

from stream.zone import EARLIEST_MS, LATEST_MS


class RecordMark(msgspec.Struct, frozen=True):
    """The last record that was read of a partition: tells whether the topic still is the one that was read."""

    offset: int
    kafka_time: int
    """ms UTC, within the years 2000 to 2099."""
    digest: str
    """BLAKE2b of the record's value, 16 bytes in hex."""

    @classmethod
    def of(cls, offset: int, kafka_time: int, value: bytes) -> "RecordMark":
        """The mark of a record."""
        time = min(max(kafka_time, EARLIEST_MS), LATEST_MS)
        return cls(offset, time, blake2b(value, digest_size=16).hexdigest())
