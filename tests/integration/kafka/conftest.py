"""A real Apache Kafka for the tests of this folder (`make test-kafka`): the fixture `bootstrap` is its address."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.kafka.apache_kafka import ApacheKafka, KafkaMissing, kafka_jars
from tests.integration.kafka.secured_kafka import SecuredKafka


@pytest.fixture(scope="session")
def jars() -> Path:
    """The folder of Kafka's jars."""
    try:
        return kafka_jars()
    except KafkaMissing as missing:
        reason = f"NOT tested against Apache Kafka: {missing}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def apache_kafka(jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    """A running broker that all tests share; each uses a topic of its own."""
    broker = ApacheKafka(jars, tmp_path_factory.mktemp("kafka"))
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def secured(jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """Another running broker, which wants TLS and logins."""
    broker = SecuredKafka(jars, tmp_path_factory.mktemp("secured"))
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def bootstrap(apache_kafka: ApacheKafka) -> str:
    """The address of the broker."""
    return apache_kafka.address
