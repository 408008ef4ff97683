"""The REST API as one FastAPI application, to be mounted at `/api`."""

from __future__ import annotations

import re

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from papita_core import __version__
from papita_core.api import docs, problems
from papita_core.api.deps import Parts
from papita_core.api.lending import LendingLane
from papita_core.api.routes import (
    audit,
    credential_types,
    credentials,
    erasures,
    leases,
    loans,
    projects,
    token,
    usage,
)
from papita_core.app import Papita
from papita_core.projects.service import ProjectRunner

MAX_BODY = 64 * 1024
DESCRIPTION = """
Papita keeps API keys and lends them to projects.

Send a personal access token as `Authorization: Bearer …`, or use the session cookie from the
portal's own pages. Errors are RFC 9457 problem details with a stable `code`.
"""


def create_api(papita: Papita, *, runner: ProjectRunner) -> FastAPI:
    app = FastAPI(
        title="Papita",
        version=__version__,
        description=DESCRIPTION,
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        middleware=[
            Middleware(LendingLane),
            Middleware(NoStore),
            Middleware(BodyLimit, limit=MAX_BODY),
        ],
        redirect_slashes=False,
        strict_content_type=True,
        # FastAPI's own spans hold what a caller sent, where it did not fit.
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        },
    )
    app.state.parts = Parts(papita, runner)
    problems.install(app)
    docs.install(app)
    # Tried in this order: what is asked most often comes first.
    for routes in (
        credentials,
        loans,
        leases,
        token,
        projects,
        credential_types,
        usage,
        audit,
        erasures,
    ):
        app.include_router(routes.router)
    return app


class NoStore:
    """Forbids every cache to keep an answer, unless its route says otherwise."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, marked if scope["type"] == "http" else send)


class BodyLimit:
    """Refuses bodies over `limit` bytes, whether or not their length was announced."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "DELETE", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        announced = Request(scope).headers.get("content-length", "0")
        if not re.fullmatch("[0-9]{1,18}", announced) or int(announced) > self._limit:
            await self._refusal()(scope, receive, send)
            return
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if len(body) > self._limit:
                await self._refusal()(scope, receive, send)
                return
            if not message.get("more_body", False):
                break
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        await self._app(scope, replay, send)

    def _refusal(self) -> JSONResponse:
        return problems.problem(
            413,
            "too-large",
            "The request is too large",
            f"A body has at most {self._limit // 1024} KiB.",
        )
