"""Structured logs: one JSON object a line on standard error, with ids and never with content.

Every library's handlers are replaced, so that nothing is printed past this format.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import orjson

_QUIET = (
    "openai",
    "httpx2",
    "httpx",
    "httpcore2",
    "aiohttp",
    "urllib3",
    "asyncio",
    "aiosqlite",
    "alembic",
)
_KNOWN = ("requestId", "runId", "conversationId", "status", "ms", "method", "route", "code")


class JsonFormatter(logging.Formatter):
    """Time, level, logger, sentence, our own fields, and the type and place of an exception."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in _KNOWN:
            value = record.__dict__.get(name)
            if value is not None:
                line[name] = value
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = describe(record.exc_info[1])
        return orjson.dumps(line, default=str).decode()


def describe(error: BaseException) -> str:
    """Type and places of an exception without its message, which may quote a user."""
    places = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return f"{type(error).__name__} at " + " > ".join(places[-8:])


def configure(level: str) -> None:
    """Sets up the root logger and silences everybody else's."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = True
    logging.getLogger("uvicorn.access").setLevel(logging.CRITICAL)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
