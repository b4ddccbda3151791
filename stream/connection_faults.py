"""Why Kafka cannot be reached, in one line that names the setting to look at.

aiokafka's clients log what they meet and raise only that no broker could be reached. `connection_fault` therefore
connects once more, to the configured addresses and to those that the brokers advertise, and explains what it meets:

| what a connection meets | probable cause |
|---|---|
| a TLS alert in place of a response | the listener wants TLS |
| the end of the connection in the TLS handshake | the listener has no TLS |
| a certificate that cannot be verified | `ssl_ca_file`, or a host that the certificate does not name |
| a TLS alert about our certificate | the listener wants a client certificate, or another one |
| the end of the connection after a request without login | the listener wants SASL |
| `IllegalSaslStateError` | the listener has no SASL |
| `UnsupportedSaslMechanismError`, `SaslAuthenticationFailed` | `sasl_mechanism`; user or password |
"""

import asyncio
import os
import ssl

from aiokafka.conn import create_conn
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from stream.errors import BrokerError
from stream.kafka_connection import security_arguments
from stream.settings import StreamSettings

_TIMEOUT_S = 10
"""How long a broker may take for one step."""
_TLS_ALERT = 0x1503
"""The first two bytes of a TLS alert, read as the upper half of the length of a response."""
_TLS_VERSIONS = {"WRONG_VERSION_NUMBER", "UNEXPECTED_EOF_WHILE_READING", "RECORD_LAYER_FAILURE"}
"""OpenSSL's reasons where the other side answers something else than TLS, or nothing."""
_OTHER_HOST = {62, 64}
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""
_OTHER_TIME = {9, 10}
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""

Address = tuple[str, int]


async def connection_fault(settings: StreamSettings) -> str | None:
    """Why brokers cannot be reached with these settings, by their addresses; None if all can.

    Raises `SettingsError` as `security_arguments` does.
    """
    faults: dict[str, list[str]] = {}
    configured = [_address(each) for each in settings.bootstrap.split(",")]
    advertised = set[Address]()
    for address in configured:
        advertised |= await _probe(address, settings, "", faults)
    for address in sorted(advertised.difference(configured)):
        await _probe(address, settings, " (Kafka advertises this address)", faults)
    return "; ".join(f"{', '.join(addresses)} {fault}" for fault, addresses in faults.items()) or None


async def unreachable(settings: StreamSettings, error: Exception) -> BrokerError:
    """The error to raise where a client raised one in connecting."""
    fault = await connection_fault(settings) or f"{settings.bootstrap} can be reached, but: {error!r}"
    return BrokerError(f"kafka: {fault}")


async def _probe(address: Address, settings: StreamSettings, note: str, faults: dict[str, list[str]]) -> set[Address]:
    """The addresses that a broker advertises; none and a fault with the note if it cannot be reached."""
    try:
        return await _advertised(address, settings)
    except (OSError, EOFError, KafkaError, ValueError) as error:  # ValueError: a broker that fails to prove itself
        faults.setdefault(explain(error, settings) + note, []).append(f"{address[0]}:{address[1]}")
        return set()


async def _advertised(address: Address, settings: StreamSettings) -> set[Address]:
    """Connect and log in at an address, and ask for the addresses of all brokers."""
    arguments = security_arguments(settings)
    connection = await create_conn(*address, request_timeout_ms=_TIMEOUT_S * 1000, **arguments)
    try:
        response = await connection.send(MetadataRequest([]))
    finally:
        connection.close()
    return {(host, port) for _, host, port, *_ in response.brokers}


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host, int(port)


def explain(error: Exception, settings: StreamSettings) -> str:
    """What an error in connecting says of the settings; continues `<address> …`."""
    protocol, cause = settings.security_protocol, error
    if isinstance(error, KafkaError) and isinstance(error.__cause__, Exception):
        cause = error.__cause__
    if isinstance(error, SaslAuthenticationFailed):
        return f"refuses sasl_user = {settings.sasl_user} or the password ({error})"
    if isinstance(error, UnsupportedSaslMechanismError):
        return f"does not offer sasl_mechanism = {settings.sasl_mechanism}"
    if isinstance(error, IllegalSaslStateError):
        return f"wants no SASL; security_protocol = {protocol} needs a listener that does"
    if isinstance(cause, ssl.SSLError):
        return _explain_tls(cause, settings)
    if isinstance(cause, asyncio.IncompleteReadError) and (cause.expected or 0) >> 16 == _TLS_ALERT:
        return f"wants TLS, which security_protocol = {protocol} lacks; set SSL or SASL_SSL"
    if isinstance(error, ConnectionResetError) and "SSL" in protocol:
        return f"ends the TLS handshake; security_protocol = {protocol} needs a listener with TLS"
    if isinstance(error, KafkaError) and _is_end(cause):
        return f"closes the connection; {_likely_wants(settings)}"
    advice = "is [stream] bootstrap right and the broker up"
    if isinstance(cause, TimeoutError) and "SSL" in protocol:
        advice += f", and does the listener have TLS, as security_protocol = {protocol} says"
    return f"does not answer correctly: {_reason(cause)}; {advice}?"


def _is_end(cause: Exception) -> bool:
    """Whether the other side closed the connection between two responses, with or without reading what we sent."""
    return isinstance(cause, ConnectionError) or (isinstance(cause, asyncio.IncompleteReadError) and not cause.partial)


def _explain_tls(error: ssl.SSLError, settings: StreamSettings) -> str:
    reason = error.reason or str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        shown = f"shows a certificate that is not accepted: {error.verify_message.rstrip('.')}"
        if error.verify_code in _OTHER_HOST:
            return f"{shown}; [stream] bootstrap must name a host of the certificate"
        if error.verify_code in _OTHER_TIME:
            return shown
        if not settings.ssl_ca_file:
            return f"{shown}; set ssl_ca_file to the CA that signed it"
        return f"{shown}; does ssl_ca_file = {settings.ssl_ca_file} hold the CA that signed it?"
    if reason in _TLS_VERSIONS:
        return f"does not speak TLS; security_protocol = {settings.security_protocol} needs a listener that does"
    if "CERTIFICATE" in reason or "UNKNOWN_CA" in reason:
        given = settings.ssl_certificate_file
        return f"refuses ssl_certificate_file = {given}: {reason}" if given else f"wants ssl_certificate_file: {reason}"
    return f"refuses TLS: {reason}"


def _likely_wants(settings: StreamSettings) -> str:
    """What a listener that closes the connection without a word may miss."""
    wants = [] if "SASL" in settings.security_protocol else ["SASL (security_protocol)"]
    if "SSL" in settings.security_protocol and not settings.ssl_certificate_file:
        wants.append("ssl_certificate_file")
    return f"does it want {' or '.join(wants)}?" if wants else "is it a broker?"


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing came within {_TIMEOUT_S} s"
    if isinstance(error, ConnectionError):
        return os.strerror(error.errno or 0)  # its own text repeats the address
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
