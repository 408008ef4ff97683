"""Errors as RFC 9457 `application/problem+json` with a stable `code`; nothing sent is echoed."""

from __future__ import annotations

import logging
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alchat_core.errors import Refused, RunError, Unauthenticated
from alchat_core.logs import describe

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_BY_STATUS = {
    400: ("bad-request", "The request could not be read."),
    404: ("not-found", "There is no such thing here."),
    405: ("method-not-allowed", "This address does not take that method."),
    413: ("body-too-large", "The request is larger than this service takes."),
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
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RunError, _run_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)  # noqa: S101 - registered for this class
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    return problem(error.status, error.code, str(error), headers=headers)


async def _run_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RunError)  # noqa: S101 - registered for this class
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return problem(
        error.status, error.code, error.message, headers=headers, retryable=error.retryable
    )


async def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
    found: dict[str, str] = {}
    for item in error.errors():
        kind = str(item["type"])
        place = [part for part in item["loc"] if part not in ("body", "query", "path", "header")]
        if kind == "extra_forbidden":
            found["body"] = "There is a field that this route does not know."
        elif kind == "json_invalid" or not place or not isinstance(place[0], str):
            found["body"] = "Send a JSON object as the API description says."
        else:
            found[place[0]] = str(item["msg"]).removeprefix("Value error, ").rstrip(".") + "."
    detail = " ".join(f"{name}: {sentence}" for name, sentence in found.items())
    return problem(422, "invalid-input", detail, errors=found)


async def _http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    code, detail = _BY_STATUS.get(error.status_code, ("bad-request", "The request was refused."))
    return problem(error.status_code, code, detail, headers=dict(error.headers or {}))


async def _unexpected(_request: Request, error: Exception) -> Response:
    log.error("request failed: %s", describe(error))
    return problem(500, "internal-error", "AL-Chat failed in an unexpected way. Try again.")


class BodyLimit:
    """Refuses request bodies over `limit` bytes, whether they say so or not."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "DELETE"):
            await self._app(scope, receive, send)
            return
        for name, value in scope["headers"]:
            if name == b"content-length" and not (value.isdigit() and int(value) <= self._limit):
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
                if seen > self._limit:
                    raise HTTPException(413, headers={"Connection": "close"})
            return message

        await self._app(scope, limited, send)
