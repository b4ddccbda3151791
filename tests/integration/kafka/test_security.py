"""TLS and login against a real Kafka: all committed lines are archived, and each way to fail names the setting."""

import asyncio
import re
import signal
from pathlib import Path

import pytest
from msgspec.structs import replace

from stream import kafka
from stream.connection_faults import connection_fault
from stream.errors import BrokerError, StreamError
from stream.settings import StreamSettings, load
from tests.certificates import Authority
from tests.integration.kafka.secured_kafka import NOWHERE, PASSWORD, PLAIN, SCRAM, SecuredKafka
from tests.integration.marquee_processes import Start
from tests.integration.topics import Place, Topic
from tests.polling import until

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def bootstrap(secured: SecuredKafka) -> str:
    """The listener of those who may do everything."""
    return secured.address["plain"]


def ways_in(secured: SecuredKafka, folder: Path) -> list[dict[str, str]]:
    """Every way to connect that works."""
    trusting, own = {"ssl_ca_file": secured.authority.certificate}, secured.client
    (folder / "password").write_text(f"{PASSWORD}\n")
    by_file = {**SCRAM, "sasl_password_file": folder / "password"}
    del by_file["sasl_password"]
    mutual = {**trusting, "ssl_certificate_file": own, "ssl_key_file": own}
    return [
        secured.environ("secure", security_protocol="SASL_SSL", **trusting, **by_file),
        secured.environ("secure", security_protocol="SASL_SSL", **trusting, **PLAIN),
        secured.environ("login", security_protocol="SASL_PLAINTEXT", **SCRAM),
        secured.environ("mutual", security_protocol="SSL", **mutual),
    ]


def test_every_way_in_archives_what_was_committed(
    secured: SecuredKafka, environ: dict[str, str], start: Start, tmp_path: Path
) -> None:
    topic = Topic(environ)
    committed: dict[Place, bytes] = {}
    topic.make()
    for turn, way in enumerate(ways_in(secured, tmp_path)):
        committed |= topic.write(30, first=turn * 30)
        collector = start(environ | way, "batch", "collect")
        until(lambda: len(topic.archived()) == len(committed) or collector.process.poll() is not None)  # noqa: B023
        collector.process.send_signal(signal.SIGTERM)
        assert collector.ends() == 0, collector.text()
        assert topic.archived() == committed
        assert PASSWORD not in collector.text()


NO_TLS = {"security_protocol": "SASL_PLAINTEXT"}
TLS = {"security_protocol": "SSL", "ssl_ca_file": "that of the brokers"}
BOTH = {**TLS, "security_protocol": "SASL_SSL", **SCRAM}
WRONG = [
    ("tls", {}, r"wants TLS, which security_protocol = PLAINTEXT lacks"),
    ("secure", {}, r"wants TLS, which security_protocol = PLAINTEXT lacks"),
    ("login", {}, r"closes the connection; does it want SASL \(security_protocol\)\?"),
    ("plain", {"security_protocol": "SSL"}, r"ends the TLS handshake; security_protocol = SSL needs a listener"),
    ("plain", NO_TLS | SCRAM, r"wants no SASL; security_protocol = SASL_PLAINTEXT"),
    ("tls", BOTH, r"wants no SASL; security_protocol = SASL_SSL"),
    ("tls", NO_TLS | SCRAM, r"wants TLS, which security_protocol = SASL_PLAINTEXT lacks"),
    ("secure", TLS, r"closes the connection; does it want SASL"),
    ("tls", {"security_protocol": "SSL"}, r"not accepted: .*; set ssl_ca_file to the CA that signed it"),
    ("tls", TLS | {"ssl_ca_file": "another"}, r"not accepted: .*; does ssl_ca_file = "),
    ("elsewhere", BOTH, r"not valid for '127.0.0.1'; \[stream\] bootstrap must name a host of the certificate"),
    ("mutual", TLS, r"ssl_certificate_file"),
    ("login", NO_TLS | SCRAM | {"sasl_mechanism": "SCRAM-SHA-256"}, r"does not offer sasl_mechanism = SCRAM-SHA-256"),
    ("login", NO_TLS | SCRAM | {"sasl_password": "x"}, r"refuses sasl_user = marquee or the password"),
    ("login", NO_TLS | PLAIN | {"sasl_password": "x"}, r"refuses sasl_user = marquee or the password"),
    ("login", NO_TLS | SCRAM | {"sasl_user": "x"}, r"refuses sasl_user = x or the password"),
]


@pytest.mark.parametrize(("listener", "keys", "fault"), WRONG)
def test_every_way_that_fails_names_the_setting(
    secured: SecuredKafka, environ: dict[str, str], tmp_path: Path, listener: str, keys: dict[str, str], fault: str
) -> None:
    if keys.get("ssl_ca_file"):
        ours = keys["ssl_ca_file"] == TLS["ssl_ca_file"]
        keys = {**keys, "ssl_ca_file": str((secured.authority if ours else Authority(tmp_path / "ca")).certificate)}
    settings = load("stream", StreamSettings, environ | secured.environ(listener, **keys))

    async def read() -> None:
        try:
            async with kafka.reading(settings, "marquee-test", {}):
                pass
        finally:
            await asyncio.sleep(0.2)  # aiokafka does not wait until its connections are closed

    with pytest.raises(BrokerError) as failed:
        asyncio.run(read())
    assert re.match(rf"kafka: {settings.bootstrap} .*{fault}", str(failed.value))
    assert PASSWORD not in str(failed.value)


def test_an_advertised_address_that_does_not_answer_is_named(secured: SecuredKafka, environ: dict[str, str]) -> None:
    settings = load("stream", StreamSettings, environ | secured.environ("moved"))
    fault = asyncio.run(connection_fault(settings))
    assert fault is not None
    assert re.match(rf"{NOWHERE} does not answer correctly: Connection refused; .*Kafka advertises this address", fault)


@pytest.mark.parametrize(
    "command", ["batch collect", "quality telemetry", "stream tail", "loadtest replay README.md", "loadtest service"]
)
def test_every_command_reports_a_wrong_password_in_one_line(
    secured: SecuredKafka, environ: dict[str, str], start: Start, command: str
) -> None:
    login = NO_TLS | SCRAM | {"sasl_password": "wr0ng-one"}
    process = start(environ | secured.environ("login", **login), *command.split())
    assert process.ends() == 1
    errors = [line for line in process.text().splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, process.text()
    assert "refuses sasl_user = marquee or the password" in errors[0]
    assert "Traceback" not in process.text()
    assert "wr0ng-one" not in process.text()


def test_a_user_without_rights_is_told_what_it_may_not(secured: SecuredKafka, environ: dict[str, str]) -> None:
    topic = Topic(environ)
    topic.make()
    topic.write(5)
    marquee = load("stream", StreamSettings, environ | secured.environ("login", **NO_TLS, **SCRAM))
    stranger = replace(marquee, sasl_user="stranger")

    async def read(settings: StreamSettings, group: str) -> None:
        async with kafka.reading(settings, group, {}) as reader:
            while not await reader.poll(10):
                pass
            await reader.commit(reader.positions)

    async def write(settings: StreamSettings) -> None:
        async with kafka.writing(settings):
            pass

    with pytest.raises(StreamError, match=f"no topic '{topic.name}' that stranger may see"):
        asyncio.run(read(stranger, "marquee-test"))
    with pytest.raises(StreamError, match=f"cannot create topic '{topic.name}': TopicAuthorizationFailedError"):
        asyncio.run(write(stranger))
    with pytest.raises(StreamError, match=r"GroupAuthorizationFailedError\('others'\)"):
        asyncio.run(read(marquee, "others"))
    asyncio.run(read(marquee, "marquee-test"))
