"""Why Kafka cannot be reached: each cause is a line of its own, which names the setting to look at.

Apache Kafka's own listeners are in `tests/integration/kafka`; here are those that need no Java.
"""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka.errors import IllegalSaslStateError, KafkaConnectionError, SaslAuthenticationFailed
from msgspec.structs import replace

from loadtest.demo.processes import free_port
from stream import broker, kafka
from stream.connection_faults import connection_fault, explain
from stream.errors import BrokerError
from stream.redaction import Secret
from stream.settings import StreamSettings
from tests.certificates import Authority

HOST = "127.0.0.1"
PLAIN = StreamSettings()
TLS = StreamSettings(security_protocol="SSL")
OWN = StreamSettings(security_protocol="SSL", ssl_certificate_file="own.pem", ssl_key_file="own.pem")
LOGIN = StreamSettings(
    security_protocol="SASL_PLAINTEXT", sasl_mechanism="SCRAM-SHA-256", sasl_user="me", sasl_password=Secret("pw")
)


def closed(cause: Exception) -> KafkaConnectionError:
    """What aiokafka raises where a connection ends that was made."""
    error = KafkaConnectionError("Connection at … closed")
    error.__cause__ = cause
    return error


def closed_after(partial: bytes, expected: int) -> KafkaConnectionError:
    """The same where the other side closed it within a response, or before one."""
    return closed(asyncio.IncompleteReadError(partial, expected))


def alerted(reason: str) -> KafkaConnectionError:
    """The same where the other side ended TLS with an alert."""
    cause = ssl.SSLError(1, reason)
    cause.reason = reason
    return closed(cause)


@pytest.mark.parametrize(
    ("error", "settings", "fault"),
    [
        (closed_after(b"\x02\x28", 0x15030300), PLAIN, r"wants TLS.*PLAINTEXT lacks; set SSL or SASL_SSL"),
        (closed_after(b"\x02\x28", 0x15030100), LOGIN, r"wants TLS.*SASL_PLAINTEXT lacks"),
        (closed_after(b"", 4), PLAIN, r"closes the connection; does it want SASL \(security_protocol\)\?"),
        (closed_after(b"", 4), TLS, r"closes the connection; .*SASL.* or ssl_certificate_file\?"),
        (closed_after(b"", 4), OWN, r"closes the connection; does it want SASL \(security_protocol\)\?"),
        (closed_after(b"", 4), LOGIN, r"closes the connection; is it a broker\?"),
        (closed(ConnectionResetError(104, "reset")), TLS, r"closes the connection; .*SASL.* or ssl_certificate_file\?"),
        (closed_after(b"P/1.1 400 Bad", 0x48545450), PLAIN, r"does not answer correctly: .*bootstrap"),
        (ConnectionResetError(), TLS, r"ends the TLS handshake; security_protocol = SSL needs a listener with TLS"),
        (ConnectionResetError(104, "Connection reset by peer"), PLAIN, r"does not answer.*: Connection reset by peer;"),
        (TimeoutError(), PLAIN, r"does not answer correctly: nothing came within 10 s; is \[stream\] bootstrap right"),
        (TimeoutError(), TLS, r".*nothing came within 10 s; .*does the listener have TLS"),
        (alerted("SSLV3_ALERT_BAD_CERTIFICATE"), TLS, r"wants ssl_certificate_file: SSLV3_ALERT_BAD_CERTIFICATE"),
        (alerted("TLSV13_ALERT_CERTIFICATE_REQUIRED"), TLS, r"wants ssl_certificate_file"),
        (alerted("TLSV1_ALERT_UNKNOWN_CA"), OWN, r"refuses ssl_certificate_file = own.pem: TLSV1_ALERT_UNKNOWN_CA"),
        (alerted("TLSV1_ALERT_PROTOCOL_VERSION"), TLS, r"refuses TLS: TLSV1_ALERT_PROTOCOL_VERSION"),
        (IllegalSaslStateError(), LOGIN, r"wants no SASL; security_protocol = SASL_PLAINTEXT needs a listener"),
        (SaslAuthenticationFailed("bad"), LOGIN, r"refuses sasl_user = me or the password .*bad"),
        (OSError("Multiple exceptions: …"), PLAIN, r"does not answer correctly: Multiple exceptions: …; is \[stream\]"),
        (ValueError("Server sent wrong signature!"), LOGIN, r"does not answer correctly: Server sent wrong signature!"),
    ],
)
def test_every_cause_names_what_to_look_at(error: Exception, settings: StreamSettings, fault: str) -> None:
    assert re.fullmatch(f"{fault}.*", explain(error, settings))
    assert "pw" not in explain(error, settings)


@pytest.fixture(scope="module")
def embedded() -> Iterator[str]:
    """The embedded broker, which has neither TLS nor SASL."""
    port = free_port()
    with broker.running(HOST, port):
        yield f"{HOST}:{port}"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authorities") / "ours")


@asynccontextmanager
async def listening(answer: bytes = b"", tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A listener that is no broker: it answers whatever comes with some bytes, and closes the connection."""

    async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(closes, HOST, 0, ssl=tls)
    async with server:
        yield f"{HOST}:{server.sockets[0].getsockname()[1]}"


async def fault_of_listener(tls: ssl.SSLContext | None, settings: StreamSettings, answer: bytes = b"") -> str:
    async with listening(answer, tls) as address:
        fault = await connection_fault(replace(settings, bootstrap=address))
    assert fault is not None
    assert fault.startswith(f"{address} ")
    return fault.removeprefix(f"{address} ")


def serving(pem: Path, ca_file: Path | None = None) -> ssl.SSLContext:
    """TLS of a listener; with a CA it asks for certificates."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca_file)
    context.load_cert_chain(pem)
    context.verify_mode = ssl.CERT_REQUIRED if ca_file else ssl.CERT_NONE
    return context


def test_a_broker_that_can_be_reached_has_no_fault(embedded: str) -> None:
    assert asyncio.run(connection_fault(StreamSettings(bootstrap=embedded))) is None


def test_only_addresses_that_fail_are_named(embedded: str) -> None:
    fault = asyncio.run(connection_fault(StreamSettings(bootstrap=f"{HOST}:1,{embedded},{HOST}:2")))
    assert fault is not None
    assert fault.startswith(f"{HOST}:1, {HOST}:2 does not answer correctly: Connection refused; ")
    assert embedded not in fault


def test_clients_raise_the_fault(embedded: str) -> None:
    settings = replace(LOGIN, bootstrap=embedded)

    async def read() -> None:
        async with kafka.reading(settings, "group", {}):
            pass

    async def write() -> None:
        async with kafka.writing(settings):
            pass

    for connect in (read, write):
        with pytest.raises(BrokerError) as failed:
            asyncio.run(connect())
        assert str(failed.value) == f"kafka: {embedded} does not offer sasl_mechanism = SCRAM-SHA-256"


def test_a_listener_without_tls_is_told_apart_from_one_that_has_it(authority: Authority) -> None:
    trusting = replace(TLS, ssl_ca_file=str(authority.certificate))
    http = asyncio.run(fault_of_listener(None, trusting, b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    assert http == "does not speak TLS; security_protocol = SSL needs a listener that does"
    has_tls = serving(authority.sign("broker", f"IP:{HOST}"))
    assert "closes the connection" in asyncio.run(fault_of_listener(has_tls, trusting))


def test_a_certificate_is_refused_for_its_authority_and_for_its_host(authority: Authority, tmp_path: Path) -> None:
    here = serving(authority.sign("here", f"IP:{HOST}"))
    other = str(Authority(tmp_path / "other").certificate)
    fault = asyncio.run(fault_of_listener(here, replace(TLS, ssl_ca_file=other)))
    assert re.search(f"not accepted: .*does ssl_ca_file = {other} hold the CA that signed it", fault)
    assert "set ssl_ca_file to the CA" in asyncio.run(fault_of_listener(here, TLS))
    elsewhere = serving(authority.sign("elsewhere", "DNS:kafka.example"))
    fault = asyncio.run(fault_of_listener(elsewhere, replace(TLS, ssl_ca_file=str(authority.certificate))))
    assert re.search(rf"not valid for '{HOST}'; \[stream\] bootstrap must name a host of the certificate", fault)


def test_a_listener_that_wants_a_certificate_says_so(authority: Authority) -> None:
    wants_one = serving(authority.sign("strict", f"IP:{HOST}"), authority.certificate)
    trusting, own = replace(TLS, ssl_ca_file=str(authority.certificate)), str(authority.sign("client", "DNS:marquee"))
    assert "ssl_certificate_file" in asyncio.run(fault_of_listener(wants_one, trusting))
    showing = replace(trusting, ssl_certificate_file=own, ssl_key_file=own)
    fault = asyncio.run(fault_of_listener(wants_one, showing))
    assert "certificate" not in fault  # it was accepted: the listener is no broker, but that comes later
