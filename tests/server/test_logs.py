"""Logs are lines of JSON, and the access log holds the share of requests that is set."""

import logging
import sys
from typing import Any

import orjson
import pytest

from server.access import AccessLog
from server.logs import JsonLines

LogLine = dict[str, Any]  # loggers choose its fields


def line(message: object, *values: object, **more: Any) -> LogLine:
    record = logging.LogRecord("server", logging.WARNING, "x.py", 1, message, values, **{"exc_info": None, **more})
    text = JsonLines().format(record)
    assert "\n" not in text
    fields: LogLine = orjson.loads(text)
    return fields


def test_a_record_is_one_line_of_json() -> None:
    fields = line("%d movies of\n%s", 3, "ü\ud800")
    assert fields.keys() == {"time", "level", "logger", "pid", "message"}
    assert (fields["level"], fields["logger"]) == ("WARNING", "server")
    assert fields["message"].startswith("3 movies of\nü")
    assert fields["time"].endswith("+00:00")


def test_a_record_of_fields_has_them() -> None:
    assert line({"status": 200, "path": "/x"}).items() >= {"status": 200, "path": "/x"}.items()


def test_a_record_of_an_exception_has_its_traceback() -> None:
    try:
        raise ValueError("why\nnot")
    except ValueError:
        fields = line("failed", exc_info=sys.exc_info())
    assert fields["message"] == "failed"
    assert fields["exception"].startswith("Traceback")
    assert fields["exception"].endswith("ValueError: why\nnot")


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (0.2, 100, 300), (1.0, 1000, 1000)])
def test_a_share_of_the_requests_is_logged(
    caplog: pytest.LogCaptureFixture, share: float, least: int, most: int
) -> None:
    access = AccessLog(share)
    with caplog.at_level(logging.INFO, "server.access"):
        for _ in range(1000):
            access.log_list(b"5", 1e-5)
    assert least <= len(caplog.records) <= most
    assert all(
        record.msg == {"method": "GET", "path": "/recommend/5", "status": 200, "us": 10} for record in caplog.records
    )
