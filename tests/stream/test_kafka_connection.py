"""Settings of the connection to Kafka: what contradicts itself, what cannot be used, and passwords that nobody sees."""

import os
import ssl
from collections.abc import Callable
from pathlib import Path

import msgspec
import orjson
import pytest

from stream.errors import SettingsError
from stream.kafka_connection import client_arguments
from stream.redaction import Secret, public_settings
from stream.settings import StreamSettings, load
from tests.certificates import Authority, encrypted

PASSWORD = "tr0ub4dor&3"
LOGIN = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "SCRAM-SHA-512", "sasl_user": "marquee"}


def settings(**keys: object) -> StreamSettings:
    """Settings as from the environment, where all are text."""
    environ = {f"MARQUEE_STREAM_{key.upper()}": str(value) for key, value in keys.items()}
    return load("stream", StreamSettings, {"MARQUEE_SETTINGS": os.devnull, **environ})


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authorities") / "ours")


def test_without_settings_the_connection_is_plain() -> None:
    assert client_arguments(settings()) == {"bootstrap_servers": "127.0.0.1:9092", "security_protocol": "PLAINTEXT"}


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_the_password_is_that_of_the_environment_or_of_the_file(tmp_path: Path, ending: str) -> None:
    (tmp_path / "password").write_bytes(PASSWORD.encode() + ending.encode())
    expected = {
        "bootstrap_servers": "127.0.0.1:9092", "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-512", "sasl_plain_username": "marquee", "sasl_plain_password": PASSWORD,
    }  # fmt: skip
    assert client_arguments(settings(**LOGIN, sasl_password=PASSWORD)) == expected
    assert client_arguments(settings(**LOGIN, sasl_password_file=tmp_path / "password")) == expected


CONTRADICTIONS = [
    ({"security_protocol": "SASL_SSL"}, "SASL_SSL needs sasl_mechanism"),
    ({"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN"}, "SASL_SSL needs sasl_user"),
    ({"security_protocol": "SASL_SSL", "sasl_user": "me"}, "SASL_SSL needs sasl_mechanism"),
    ({"sasl_user": "me"}, "PLAINTEXT does not use sasl_user"),
    ({"sasl_password": PASSWORD}, "PLAINTEXT does not use sasl_password"),
    ({"security_protocol": "SSL", "sasl_mechanism": "PLAIN"}, "SSL does not use sasl_mechanism"),
    ({"ssl_ca_file": "ca.pem"}, "PLAINTEXT does not use ssl_ca_file"),
    ({**LOGIN, "ssl_ca_file": "ca.pem"}, "SASL_PLAINTEXT does not use ssl_ca_file"),
    ({"security_protocol": "SSL", "ssl_certificate_file": "a"}, "ssl_certificate_file needs ssl_key_file"),
    ({"security_protocol": "SSL", "ssl_key_file": "a"}, "ssl_key_file needs ssl_certificate_file"),
    ({"security_protocol": "SSL", "ssl_key_password": PASSWORD}, "ssl_key_password needs ssl_key_file"),
    ({**LOGIN, "sasl_password": PASSWORD, "sasl_password_file": "a"}, "sasl_password_file is set, and so is"),
    ({"security_protocol": "TLS"}, "security_protocol"),
    ({**LOGIN, "sasl_mechanism": "GSSAPI"}, "sasl_mechanism"),
]


@pytest.mark.parametrize(("keys", "problem"), CONTRADICTIONS)
def test_settings_that_contradict_each_other_are_an_error(keys: dict[str, str], problem: str) -> None:
    with pytest.raises(SettingsError) as refused:
        settings(**keys)
    assert str(refused.value).startswith("settings: [stream] ")
    assert problem in str(refused.value)
    assert PASSWORD not in str(refused.value)


def test_a_process_that_does_not_connect_needs_no_password() -> None:
    unread = settings(**LOGIN, sasl_password_file="/only/the/collector/may/read/this")
    assert unread.sasl_user == "marquee"
    with pytest.raises(SettingsError, match="needs a password: set sasl_password_file"):
        client_arguments(settings(**LOGIN))


@pytest.mark.parametrize("key", ["sasl_password", "ssl_key_password"])
def test_a_password_in_the_settings_file_is_an_error_that_does_not_show_it(tmp_path: Path, key: str) -> None:
    (tmp_path / "s.toml").write_text(f'[stream]\n{key} = "{PASSWORD}"\n')
    with pytest.raises(SettingsError, match=rf"MARQUEE_STREAM_{key.upper()}, or {key}_file") as refused:
        load("stream", StreamSettings, {"MARQUEE_SETTINGS": str(tmp_path / "s.toml")})
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize("show", [repr, str, "{!r}".format, "{}".format])
def test_a_secret_is_never_printed(show: Callable[[object], str]) -> None:
    secret = settings(**LOGIN, sasl_password=PASSWORD)
    assert PASSWORD not in show(secret)
    assert PASSWORD not in show(secret.sasl_password)
    assert secret.sasl_password.reveal() == PASSWORD


def test_a_secret_is_never_written_as_json() -> None:
    secret = settings(**LOGIN, sasl_password=PASSWORD)
    for write in (msgspec.json.encode, msgspec.to_builtins, orjson.dumps, msgspec.json.Encoder().encode):
        with pytest.raises(TypeError):
            write(secret)
        with pytest.raises(TypeError):
            write({"password": secret.sasl_password})
    shown = public_settings(secret)
    assert (shown["sasl_user"], shown["sasl_password"], shown["ssl_key_password"]) == ("marquee", "***", "")
    assert PASSWORD not in str(shown)


def test_secrets_are_equal_if_their_texts_are() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret()}) == 2
    assert not Secret()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "must hold one line"),
        (b" \n", "must hold one line"),
        (b"\nsecret\n", "must hold one line"),
        (b"one\ntwo\n", "must hold one line"),
        (b"\xff\xfe\n", "is not text in UTF-8"),
    ],
)
def test_a_password_file_that_cannot_be_used_is_an_error(tmp_path: Path, content: bytes | None, problem: str) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError) as refused:
        client_arguments(settings(**LOGIN, sasl_password_file=path))
    assert str(refused.value).startswith(f"settings: [stream] sasl_password_file = {path} {problem}")


def test_a_ca_file_replaces_the_authorities_of_the_system(authority: Authority) -> None:
    context = client_arguments(settings(security_protocol="SSL", ssl_ca_file=authority.certificate))["ssl_context"]
    assert [dict(pair for pairs in each["subject"] for pair in pairs) for each in context.get_ca_certs()] == [
        {"commonName": "ours"}
    ]
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
    of_the_system = client_arguments(settings(security_protocol="SSL"))["ssl_context"]
    assert (of_the_system.check_hostname, of_the_system.verify_mode) == (True, ssl.CERT_REQUIRED)


def test_a_ca_file_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no certificate\n")
    for path, problem in ((tmp_path / "none", "cannot be read"), (tmp_path, "directory"), (tmp_path / "text", "PEM")):
        with pytest.raises(SettingsError, match=rf"ssl_ca_file = {path} .*{problem}"):
            client_arguments(settings(security_protocol="SSL", ssl_ca_file=path))


def test_an_encrypted_key_needs_its_password(authority: Authority, tmp_path: Path) -> None:
    pem = authority.sign("encrypted", "DNS:marquee")
    keys = {"security_protocol": "SSL", "ssl_certificate_file": pem, "ssl_key_file": encrypted(pem, PASSWORD)}
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    client_arguments(settings(**keys, ssl_key_password=PASSWORD))
    client_arguments(settings(**keys, ssl_key_password_file=tmp_path / "password"))
    for given in ({}, {"ssl_key_password": "another"}, {"ssl_key_password": "x" * 2000}):
        with pytest.raises(SettingsError, match=r"ssl_key_file = .* cannot be used.*ssl_key_password_file must fit"):
            client_arguments(settings(**keys, **given))


def test_a_certificate_that_cannot_be_used_is_an_error(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no certificate\n")
    first, second = authority.sign("first", "DNS:first"), authority.sign("second", "DNS:second")
    client_arguments(settings(security_protocol="SSL", ssl_certificate_file=first, ssl_key_file=first))
    for certificate, key, problem in (
        (first, second, "cannot be used.*a pair"),
        (tmp_path / "text", first, "cannot be used"),
        (first, tmp_path / "text", "cannot be used"),
        (tmp_path / "none", first, "ssl_certificate_file = .*cannot be read"),
        (first, tmp_path / "none", "ssl_key_file = .*cannot be read"),
    ):
        with pytest.raises(SettingsError, match=problem):
            client_arguments(settings(security_protocol="SSL", ssl_certificate_file=certificate, ssl_key_file=key))
