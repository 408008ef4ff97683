"""Errors on the wire: RFC 9457 problem details with a stable `code`.

Nothing that the caller sent is repeated: a 422 names fields and says what is expected of them.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from papita_core.errors import (
    BudgetExceeded,
    ClientRefused,
    IdempotencyInFlight,
    InvalidInput,
    PapitaError,
    TestFailed,
    TokenRequestRefused,
    TooManyAttempts,
    Unauthenticated,
)

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
PLAIN = {
    400: ("bad-request", "The request cannot be understood"),
    404: ("not-found", "Not found"),
    405: ("method-not-allowed", "This address does not take this method"),
    413: ("too-large", "The request is too large"),
    415: ("unsupported-media-type", "The body has another type than expected"),
}


def problem(
    status: int,
    code: str,
    title: str,
    detail: str,
    headers: dict[str, str] | None = None,
    **more: Any,
) -> JSONResponse:
    return JSONResponse(
        {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code}
        | more,
        status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        media_type=MEDIA_TYPE,
    )


def from_error(error: PapitaError) -> JSONResponse:
    headers: dict[str, str] = {}
    more: dict[str, Any] = {}
    if isinstance(error, InvalidInput):
        more["errors"] = [
            {"field": name, "detail": detail} for name, detail in error.errors.items()
        ]
    if isinstance(error, TooManyAttempts | BudgetExceeded):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, BudgetExceeded):
        more["budget"] = error.budget
    if isinstance(error, IdempotencyInFlight):
        headers["Retry-After"] = "1"
    if isinstance(error, TestFailed):
        more["test"] = {"status": error.test_status}
    if isinstance(error, ClientRefused):
        headers["WWW-Authenticate"] = 'Basic realm="papita"'
        more["error"] = "invalid_client"
    elif isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="papita"'
    if isinstance(error, TokenRequestRefused):
        more["error"] = error.oauth_error
    return problem(error.status, error.code, error.title, error.detail, headers, **more)


def of_papita(request: Request, error: PapitaError) -> JSONResponse:
    """The answer to a request that ended with this error; what is our own fault is logged."""
    if error.status >= 500:
        log.warning("%s: %s", request.url.path, error.code)
    return from_error(error)


def install(app: FastAPI) -> None:
    @app.exception_handler(PapitaError)
    async def _papita(request: Request, error: PapitaError) -> JSONResponse:
        return of_papita(request, error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        if _is_no_json(request, error):
            code, title = PLAIN[415]
            return problem(415, code, title, "Send the body as application/json.")
        found: dict[str, str] = {}
        for item in error.errors():
            # A name that the schema does not know is the caller's own word, and somebody may have
            # put a key there: it is not repeated, nor are the names inside of `credentials`.
            place = [part for part in item["loc"][1:2] if isinstance(part, str)]
            unknown = item["type"] in ("extra_forbidden", "json_invalid") or not place
            found["" if unknown else place[0]] = _sentence(item["type"])
        return from_error(InvalidInput(found, "The request does not fit the description."))

    app.exception_handler(HTTPException)(http_problem)

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, error: Exception) -> JSONResponse:
        return from_error(PapitaError())


async def http_problem(request: Request, error: Exception) -> JSONResponse:
    """The handler of what the routing refuses; for the portal's own routes, too."""
    assert isinstance(error, HTTPException)  # noqa: S101 - that is what it is installed for
    code, title = PLAIN.get(error.status_code, ("error", "The request was not served"))
    headers = dict(error.headers or {})
    if error.status_code == 405 and isinstance(request.app, FastAPI):
        headers["Allow"] = ", ".join(sorted(_methods(request)))
    return problem(error.status_code, code, title, f"{title}.", headers)


def _methods(request: Request) -> set[str]:
    """What the address takes: each route of a path knows its own methods alone."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    return {
        method
        for context in iter_route_contexts(request.app.routes)
        if context.path and compile_path(context.path)[0].match(path)
        for method in context.methods or ()
    }


def _is_no_json(request: Request, error: RequestValidationError) -> bool:
    """Whether a body was not even read, since its type is not the one that JSON has."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return not re.fullmatch(r"application/([a-z0-9.-]+\+)?json", kind) and any(
        item["loc"] == ("body",) and item["type"] == "model_attributes_type"
        for item in error.errors()
    )


def _sentence(kind: str) -> str:
    return {
        "missing": "This field is needed.",
        "json_invalid": "The body is not valid JSON.",
        "extra_forbidden": "The body has a field that is not known here.",
        "string_type": "This has to be a string.",
        "string_too_long": "This is too long.",
        "string_too_short": "This is too short.",
        "datetime_from_date_parsing": "This has to be a time, for example 2030-01-31T00:00:00Z.",
        "datetime_parsing": "This has to be a time, for example 2030-01-31T00:00:00Z.",
        "timezone_aware": "The time needs a zone, for example 2030-01-31T00:00:00Z.",
        "int_parsing": "This has to be a whole number.",
    }.get(kind, "This has another form than expected.")
