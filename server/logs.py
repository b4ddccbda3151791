"""Logs as JSON, one line each: `time` (UTC), `level`, `logger`, `pid`, and `message` or its fields."""

import datetime as dt
import json
import logging


class JsonLines(logging.Formatter):
    """Log records as lines of JSON; a message that is a dict gives its fields."""

    def format(self, record: logging.LogRecord) -> str:
        told = record.msg if isinstance(record.msg, dict) else {"message": record.getMessage()}
        at = dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds")
        line = {"time": at, "level": record.levelname, "logger": record.name, "pid": record.process, **told}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # names of files and methods may hold bytes that are no text
        return json.dumps(line, default=str, ensure_ascii=False).encode(errors="replace").decode()


def as_json() -> None:
    """Let all loggers of this process write lines of JSON where they write now."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(JsonLines())
