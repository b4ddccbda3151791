"""A real Apache Kafka for the tests of this folder (`make test-kafka`): the fixture `bootstrap` is its address."""

import os
from collections.abc import Iterator

import pytest

from tests.integration.kafka.apache_kafka import ApacheKafka, KafkaMissing, kafka_jars


@pytest.fixture(scope="session")
def apache_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    """A running broker that all tests share; each uses a topic of its own."""
    try:
        jars = kafka_jars()
    except KafkaMissing as missing:
        reason = f"NOT tested against Apache Kafka: {missing}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    broker = ApacheKafka(jars, tmp_path_factory.mktemp("kafka"))
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def bootstrap(apache_kafka: ApacheKafka) -> str:
    """The address of the broker."""
    return apache_kafka.address
