"""A name for each request: taken from `X-Request-Id` or made, in the logs, and in the answer.

Where traces are made, each request to the API is a part of one.
"""

from __future__ import annotations

import logging
import re
import time

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alchat_core import logs, telemetry
from alchat_core.ids import new_id

log = logging.getLogger(__name__)

HEADER = "X-Request-Id"
# Other names could forge lines of a log.
_USABLE = re.compile(rb"[A-Za-z0-9._:-]{1,64}")


class RequestIds:
    """Everything that a request brings about is logged under its id, a run that it starts, too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _given(scope) or new_id("req")
        logs.about(requestId=request_id)
        telemetry.accept(scope["headers"])
        begin, status = time.monotonic(), 0

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        if telemetry.on() and scope["path"].startswith("/api/"):
            with telemetry.span(
                scope["method"], {"alchat.request.id": request_id}, kind="server"
            ) as span:
                await self._app(scope, receive, named)
                span.rename(f"{scope['method']} {_route(scope)}")
                span.add("http.request.method", scope["method"])
                span.add("http.route", _route(scope))
                span.add("http.response.status_code", status)
                if status >= 500:
                    span.fail(str(status))
        else:
            await self._app(scope, receive, named)
        if log.isEnabledFor(logging.DEBUG):
            route = _route(scope)
            spent = round((time.monotonic() - begin) * 1000, 1)
            about = {"method": scope["method"], "route": route, "status": status, "ms": spent}
            log.debug("request", extra=about)


def _route(scope: Scope) -> str | None:
    """The route, not the path: in that stands what somebody typed."""
    return getattr(scope.get("route"), "path", None)


def _given(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _USABLE.fullmatch(value):
            return str(value.decode())
    return None
