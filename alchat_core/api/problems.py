"""Errors as RFC 9457 `application/problem+json` with a stable `code`; nothing sent is echoed."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alchat_core import logs
from alchat_core.errors import DatabaseUnavailable, Refused, RunError, Unauthenticated
from alchat_core.logs import describe

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_BY_STATUS = {
    400: ("bad-request", "The request could not be read."),
    404: ("not-found", "There is no such thing here."),
    405: ("method-not-allowed", "This address does not take that method."),
    413: (
        "body-too-large",
        "The request is larger than this service takes. Make it smaller or split it.",
    ),
    415: ("unsupported-media-type", "Send the body as application/json."),
}


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    headers: dict[str, str] | None = None,
    **more: Any,
) -> Response:
    """One problem as a response."""
    body = {
        "type": "about:blank",
        "title": code.replace("-", " ").capitalize(),
        "status": status,
        "detail": detail,
        "code": code,
        **more,
    }
    return Response(
        orjson.dumps(body),
        status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        media_type=MEDIA_TYPE,
    )


def install(app: FastAPI) -> None:
    """Makes every error of `app` a problem."""
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _unexpected)


async def of(request: Request, error: Exception) -> Response:
    """The problem for an error that is one of `EXPECTED`."""
    for kind, handler in _HANDLERS.items():
        if isinstance(error, kind):
            return await handler(request, error)
    raise error


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)  # noqa: S101 - registered for this class
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    return problem(error.status, error.code, str(error), headers=headers)


async def _database(request: Request, error: Exception) -> Response:
    log.error("the database failed: %s", describe(error))
    return await _refused(request, DatabaseUnavailable(retry_after=2))


async def _run_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RunError)  # noqa: S101 - registered for this class
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return problem(
        error.status, error.code, error.message, headers=headers, retryable=error.retryable
    )


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
    if _is_no_json(request, error):
        code, sentence = _BY_STATUS[415]
        return problem(415, code, sentence)
    found: dict[str, str] = {}
    for item in error.errors():
        kind = str(item["type"])
        place = [part for part in item["loc"] if part not in ("body", "query", "path", "header")]
        if kind == "extra_forbidden":
            found["body"] = "There is a field that this route does not know."
        elif kind == "json_invalid" or not place or not isinstance(place[0], str):
            found["body"] = "Send a JSON object as the API description says."
        else:
            name = ".".join(part for part in place if isinstance(part, str))
            found[name] = str(item["msg"]).removeprefix("Value error, ").rstrip(".") + "."
    detail = " ".join(f"{name}: {sentence}" for name, sentence in found.items())
    return problem(422, "invalid-input", detail, errors=found)


def _is_no_json(request: Request, error: RequestValidationError) -> bool:
    """Whether a body was not even read, since its type is not the one that JSON has."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return not re.fullmatch(r"application/([a-z0-9.-]+\+)?json", kind) and any(
        item["loc"] == ("body",) and item["type"] == "model_attributes_type"
        for item in error.errors()
    )


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    code, detail = _BY_STATUS.get(error.status_code, ("bad-request", "The request was refused."))
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(sorted(_methods(request)))
    return problem(error.status_code, code, detail, headers=headers)


_HANDLERS: Final = {
    Refused: _refused,
    RunError: _run_error,
    OperationalError: _database,
    HTTPException: _http,
}
# What routes raise in the ordinary course of things.
EXPECTED: Final[tuple[type[Exception], ...]] = tuple(_HANDLERS)


def _methods(request: Request) -> set[str]:
    """What the address takes: each route of a path knows its own methods alone."""
    return {
        method
        for context in iter_route_contexts(request.app.routes)
        if context.path and compile_path(context.path)[0].match(request.scope["path"])
        for method in context.methods or ()
    }


async def _unexpected(_request: Request, error: Exception) -> Response:
    log.error("request failed: %s", describe(error))
    # This one is answered outside of `tracing.RequestIds`.
    request_id = logs.request_id()
    return problem(
        500,
        "internal-error",
        "AL-Chat failed in an unexpected way. Try again.",
        headers={"X-Request-Id": request_id} if request_id else None,
    )


class BodyLimit:
    """Refuses request bodies over `limit` bytes, whether they say so or not.

    `others` are paths that have a limit of their own.
    """

    def __init__(
        self, app: ASGIApp, limit: int, others: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        self._app = app
        self._limit = limit
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "DELETE"):
            await self._app(scope, receive, send)
            return
        limit = self._others.get(scope["path"], self._limit)
        for name, value in scope["headers"]:
            if name == b"content-length" and not (value.isdigit() and int(value) <= limit):
                code, detail = _BY_STATUS[413]
                await problem(413, code, detail, headers={"Connection": "close"})(
                    scope, receive, send
                )
                return
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > limit:
                    raise HTTPException(413, headers={"Connection": "close"})
            return message

        await self._app(scope, limited, send)
