"""How every Kafka client of Marquee connects: the arguments that the settings of the connection make.

Passwords and files are read here, by the processes that connect and when they connect, so that the others need no right
to read them, and a password that was changed counts from the next start.
"""

import ssl
from pathlib import Path
from typing import Any

from stream.errors import SettingsError
from stream.redaction import Secret
from stream.settings import StreamSettings


def client_arguments(settings: StreamSettings) -> dict[str, Any]:
    """Arguments of any client of aiokafka: where and how to connect. Raises `SettingsError` as below."""
    return {"bootstrap_servers": settings.bootstrap, **security_arguments(settings)}


def security_arguments(settings: StreamSettings) -> dict[str, Any]:
    """Arguments of any connection of aiokafka: how to connect.

    Raises `SettingsError` for a password that is missing and for a file that cannot be used.
    """
    arguments: dict[str, Any] = {"security_protocol": settings.security_protocol}
    if "SSL" in settings.security_protocol:
        arguments["ssl_context"] = _ssl_context(settings)
    if "SASL" in settings.security_protocol:
        password = _password("sasl_password", settings.sasl_password, settings.sasl_password_file)
        if not password:
            raise SettingsError(
                f"settings: [stream] security_protocol = {settings.security_protocol} needs a password: set"
                " sasl_password_file, or MARQUEE_STREAM_SASL_PASSWORD in the environment"
            )
        arguments["sasl_mechanism"] = settings.sasl_mechanism
        arguments["sasl_plain_username"] = settings.sasl_user
        arguments["sasl_plain_password"] = password
    return arguments


def _ssl_context(settings: StreamSettings) -> ssl.SSLContext:
    """Whom to trust and what to show in TLS; the host's name is always checked."""
    context = _context_trusting(settings.ssl_ca_file)
    certificate, key = settings.ssl_certificate_file, settings.ssl_key_file
    if certificate:
        _read("ssl_certificate_file", certificate)
        _read("ssl_key_file", key)
        password = _password("ssl_key_password", settings.ssl_key_password, settings.ssl_key_password_file)
        try:
            # an empty password rather than none, for which OpenSSL would ask on the terminal
            context.load_cert_chain(certificate, key, password)
        except (ssl.SSLError, ValueError) as error:  # ValueError: the password is longer than OpenSSL allows
            raise SettingsError(
                f"settings: [stream] ssl_certificate_file = {certificate} and ssl_key_file = {key} cannot be used:"
                f" {error}; they must be a pair in PEM, and ssl_key_password_file must fit if the key is encrypted"
            ) from error
    return context


def _context_trusting(ca_file: str) -> ssl.SSLContext:
    """A context that trusts the certificates of a file, or those of the system if it is empty."""
    if not ca_file:
        return ssl.create_default_context()
    _read("ssl_ca_file", ca_file)
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        raise SettingsError(
            f"settings: [stream] ssl_ca_file = {ca_file} cannot be used: {error}; it must hold certificates in PEM"
        ) from error


def _password(key: str, given: Secret, path: str) -> str:
    """The password of a key of the settings, from the environment or from its file; empty if it has neither."""
    if not path:
        return given.reveal()
    try:
        lines = _read(f"{key}_file", path).decode().splitlines()
    except UnicodeDecodeError as error:
        raise SettingsError(f"settings: [stream] {key}_file = {path} is not text in UTF-8") from error
    if len(lines) != 1 or not lines[0].strip():
        raise SettingsError(f"settings: [stream] {key}_file = {path} must hold one line, the password")
    return lines[0]


def _read(key: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"settings: [stream] {key} = {path} cannot be read: {reason}") from error
