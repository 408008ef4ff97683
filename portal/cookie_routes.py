"""`/auth/session`: trades a sign-in ticket for the HttpOnly cookie, and drops the cookie.

Both are asked by the portal's own pages only; a request that is not is refused before it is read.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from papita_core.api.problems import from_error
from papita_core.app import Papita
from papita_core.errors import CrossSiteRefused, InvalidInput, PapitaError, TicketRefused
from portal.settings import PortalSettings

BODY_LIMIT = 4096
OWN_HEADER = "x-papita-portal"


def session_routes(papita: Papita, settings: PortalSettings) -> list[Route]:
    """The routes, over one Papita."""

    def cookie(response: Response, value: str, seconds: int) -> None:
        response.set_cookie(
            settings.cookie_name,
            value,
            max_age=seconds,
            path="/",
            secure=settings.secure,
            httponly=True,
            samesite="lax",
        )

    async def create(request: Request) -> Response:
        ticket = _ticket(await _body(request))
        handle, session = await run_in_threadpool(papita.sessions.redeem, ticket)
        response = Response(status_code=204)
        left = session.expires_at - datetime.now(UTC)
        cookie(response, handle, max(0, int(left.total_seconds())))
        return response

    async def drop(request: Request) -> Response:
        # A tab that signs out late must not take the cookie of a newer sign-in away.
        handle = request.cookies.get(settings.cookie_name, "")
        response = Response(status_code=204)
        if await run_in_threadpool(papita.sessions.by_handle, handle) is None:
            cookie(response, "", 0)
        return response

    async def endpoint(request: Request) -> Response:
        try:
            require_same_origin(request, settings.origin)
            response = await (create if request.method == "POST" else drop)(request)
        except PapitaError as error:
            response = from_error(error)
        response.headers["Cache-Control"] = "no-store"
        return response

    return [Route("/auth/session", endpoint, methods=["POST", "DELETE"])]


def require_same_origin(request: Request, own_origin: str) -> None:
    """Raises `CrossSiteRefused` unless one of our own pages sent this.

    Another site can neither set our header nor send our `Origin`. Behind a proxy the host that
    arrives may be another than the browser's, hence the public origin as well.
    """
    origin = request.headers.get("origin", "")
    host = request.headers.get("host", "")
    same = origin == own_origin or (bool(host) and urlsplit(origin).netloc == host)
    site = request.headers.get("sec-fetch-site", "same-origin")
    if not (same and site == "same-origin" and request.headers.get(OWN_HEADER)):
        raise CrossSiteRefused


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_LIMIT:
            raise InvalidInput({"ticket": "This is too long."})
    return body


def _ticket(body: bytes) -> str:
    try:
        ticket = json.loads(body)["ticket"]
    except (ValueError, KeyError, TypeError):
        raise TicketRefused from None
    if not isinstance(ticket, str):
        raise TicketRefused
    return ticket
