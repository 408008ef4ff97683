"""Logs on standard error, as text or as one JSON object a line, with ids and never with content.

What a request or a run brings about carries its ids: `about` sets them for the task that calls it
and for those that this one starts. Every library's handlers are replaced, so that nothing is
printed past this format.
"""

from __future__ import annotations

import logging
import sys
import time
from contextvars import ContextVar
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
_KNOWN = (
    "requestId",
    "runId",
    "conversationId",
    "status",
    "ms",
    "method",
    "route",
    "code",
    "outcome",
)


_about: ContextVar[dict[str, str]] = ContextVar("about")


def about(**ids: str) -> None:
    """What this task works on from now on: `requestId`, `runId`, `conversationId`."""
    _about.set({**_about.get({}), **ids})


def request_id() -> str | None:
    """The request that this task works for, if any."""
    return _about.get({}).get("requestId")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """Our own fields, and the type and place of an exception."""
    found: dict[str, Any] = {}
    ids = _about.get({})
    for name in _KNOWN:
        value = record.__dict__.get(name, ids.get(name))
        if value is not None:
            found[name] = value
    if record.exc_info and record.exc_info[1] is not None:
        found["exception"] = describe(record.exc_info[1])
    return found


def _moment(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


class JsonFormatter(logging.Formatter):
    """Time, level, logger, sentence, and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        return orjson.dumps(line, default=str).decode()


class TextFormatter(logging.Formatter):
    """The same for people to read."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        level = record.levelname.lower()
        return f"{_moment(record)} {level} {record.name}: {record.getMessage()}{fields}"


def describe(error: BaseException) -> str:
    """Type and places of an exception without its message, which may quote a user."""
    places = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return f"{type(error).__name__} at " + " > ".join(places[-8:])


def configure(level: str, form: str) -> None:
    """`form` is `text` or `json`. Sets up the root logger and silences everybody else's."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
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
    # It says what servers sent.
    logging.getLogger("mcp").setLevel(logging.CRITICAL)
