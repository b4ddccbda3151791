"""What Kafka says of the configured topic as a whole, and how the topic is made."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, KafkaError, NoError, TopicAlreadyExistsError, for_code

from stream.connection_faults import unreachable
from stream.errors import StreamError
from stream.kafka_connection import client_arguments
from stream.settings import StreamSettings

_RETENTION = "retention.ms"


async def partitions_of(settings: StreamSettings) -> list[int]:
    """The partitions of the topic, ascending. Raises `StreamError` if there is no such topic."""
    # from the brokers: a consumer knows only the partitions of topics that it has subscribed to
    async with _administering(settings) as admin:
        topics = {topic["topic"]: topic["partitions"] for topic in await admin.describe_topics()}
    if not topics.get(settings.topic):
        visible = f" that {settings.sasl_user} may see" if settings.sasl_user else ""
        raise StreamError(f"kafka: no topic '{settings.topic}'{visible}; it has {', '.join(sorted(topics)) or 'none'}")
    return sorted(partition["partition"] for partition in topics[settings.topic])


async def retention_ms(settings: StreamSettings) -> int | None:
    """How long Kafka keeps the topic's records, by their own times; None: for ever, or the broker does not say."""
    value = int(await _topic_config(settings, _RETENTION) or -1)
    return value if value >= 0 else None


async def keeps_times(settings: StreamSettings) -> bool:
    """Whether the topic's records keep the times that their writers give them; true if the broker does not say."""
    return await _topic_config(settings, "message.timestamp.type") != "LogAppendTime"


async def _topic_config(settings: StreamSettings, name: str) -> str | None:
    """Kafka's setting of the topic; None if the broker does not say."""
    async with _administering(settings) as admin:
        topic = ConfigResource(ConfigResourceType.TOPIC, settings.topic, {name: None})
        try:
            [response] = await admin.describe_configs([topic])
        except KafkaConnectionError:  # the embedded broker ends the connection at this request; it keeps everything
            return None
    return next((value for *_, configs in response.resources for _, value, *_ in configs), None)


async def ensure_topic(settings: StreamSettings, partitions: int) -> None:
    """Make the topic if it is missing, to keep its records for ever. Raises `StreamError` if Kafka refuses."""
    async with _administering(settings) as admin:
        if settings.topic not in await admin.list_topics():
            response = await admin.create_topics(
                [NewTopic(settings.topic, partitions, 1, topic_configs={_RETENTION: "-1"})]
            )
            for topic, code, *_ in response.topic_errors:
                if code not in (NoError.errno, TopicAlreadyExistsError.errno):  # another process may have been faster
                    raise StreamError(f"kafka: cannot create topic '{topic}': {for_code(code).__name__}")


async def offset_ranges(settings: StreamSettings) -> dict[int, tuple[int, int]]:
    """By partition of the topic: its first offset, and the one after its last, as far as the broker says."""
    partitions = [TopicPartition(settings.topic, partition) for partition in await partitions_of(settings)]
    async with _asking(settings, None) as consumer:
        first, end = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
    return {tp.partition: (first[tp], end[tp]) for tp in partitions}


async def committed_offsets(settings: StreamSettings, group: str) -> dict[int, int]:
    """By partition of the topic: the offset that a consumer group has committed, where it has."""
    partitions = [TopicPartition(settings.topic, partition) for partition in await partitions_of(settings)]
    async with _asking(settings, group) as consumer:
        committed = {tp.partition: await consumer.committed(tp) for tp in partitions}
    return {partition: offset for partition, offset in committed.items() if offset is not None}


@asynccontextmanager
async def _asking(settings: StreamSettings, group: str | None) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer that reads nothing. Raises `BrokerError` without a broker."""
    consumer = AIOKafkaConsumer(**client_arguments(settings), group_id=group, enable_auto_commit=False)
    try:
        await consumer.start()
        yield consumer
    except (KafkaError, TimeoutError) as error:
        raise await unreachable(settings, error) from error
    finally:
        await consumer.stop()


@asynccontextmanager
async def _administering(settings: StreamSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client. Raises `BrokerError` without a broker."""
    admin = AIOKafkaAdminClient(**client_arguments(settings))
    try:
        await admin.start()
        yield admin
    except (KafkaError, TimeoutError) as error:
        raise await unreachable(settings, error) from error
    finally:
        await admin.close()
