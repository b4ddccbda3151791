"""Logs as lines of JSON: `time` (UTC), `level`, `logger`, `pid`, and `message` or the fields of the message."""

import datetime as dt
import json
import logging


class JsonLines(logging.Formatter):
    """Formats log records as lines of JSON; the items of a message that is a dict become fields."""

    def format(self, record: logging.LogRecord) -> str:
        fields = record.msg if isinstance(record.msg, dict) else {"message": record.getMessage()}
        time = dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname, "logger": record.name, "pid": record.process, **fields}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # file names and HTTP methods may hold bytes that are not valid text
        return json.dumps(line, default=str, ensure_ascii=False).encode(errors="replace").decode()


def as_json() -> None:
    """Make the handlers of the root logger write lines of JSON."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(JsonLines())
