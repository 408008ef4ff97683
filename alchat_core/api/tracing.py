"""A name for each request: taken from `X-Request-Id` or made, in the logs, and in the answer."""

from __future__ import annotations

import logging
import re
import time

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alchat_core import logs
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
        begin, status = time.monotonic(), 0

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        await self._app(scope, receive, named)
        if log.isEnabledFor(logging.DEBUG):
            # The route, not the path: in that stands what somebody typed.
            route = getattr(scope.get("route"), "path", None)
            spent = round((time.monotonic() - begin) * 1000, 1)
            about = {"method": scope["method"], "route": route, "status": status, "ms": spent}
            log.debug("request", extra=about)


def _given(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _USABLE.fullmatch(value):
            return str(value.decode())
    return None
