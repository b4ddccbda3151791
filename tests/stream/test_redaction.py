"""No password or key of a URL is ever shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.settings import BatchSettings
from quality.settings import QualitySettings
from stream.redaction import public_settings, redact


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://user:secret@host:8080/path", "http://***@host:8080/path"),
        ("https://host/hook?token=secret", "https://host/hook?***"),
        ("https://secret@host", "https://***@host"),
        ("http://a:se@cret@host/", "http://***@host/"),
        ("https://host/#secret", "https://host/#***"),
        ("no answer from http://u:secret@host/x: refused", "no answer from http://***@host/x: refused"),
        ("movie+3+2000", "movie+3+2000"),
    ],
)
def test_a_url_keeps_its_host_and_path_only(url: str, shown: str) -> None:
    assert redact(url) == shown


WORD = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/?#@"), min_size=1)


@given(user=WORD, key=WORD)
def test_secrets_are_removed_anywhere_in_a_text(user: str, key: str) -> None:
    secret, value = "s3cr3t", 7
    urls = [f"http://{user}:{secret}@host/path", f"http://host/path?{key}={secret}"]
    shown = redact({"deep": [{"urls": urls}], "number": value})
    assert secret not in str(shown)
    assert shown["number"] == value
    assert "host/path" in str(shown)


def test_settings_are_shown_without_secrets() -> None:
    shown = public_settings(BatchSettings(api="http://user:secret@host:8080"))
    assert (shown["api"], shown["seed"]) == ("http://***@host:8080", 1)
    assert (
        public_settings(QualitySettings(webhook="https://host/hook?key=secret"))["webhook"] == "https://host/hook?***"
    )
