"""`/auth/session`: trades a sign-in ticket for the HttpOnly cookie, and drops the cookie.

Both are asked by the portal's own pages only; a request that is not is refused before it is read.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from papita_core.api.problems import from_error
from papita_core.app import Papita
from papita_core.errors import CrossSiteRefused, InvalidInput, PapitaError, TicketRefused
from papita_core.users.sessions import SignInSession
from portal.settings import PortalSettings

BODY_LIMIT = 4096
OWN_HEADER = "x-papita-portal"


def session_routes(papita: Papita, settings: PortalSettings) -> list[Route]:
    """The routes, over one Papita."""

    async def create(request: Request) -> Response:
        ticket = _ticket(await body_of(request))
        handle, session = await run_in_threadpool(papita.sessions.redeem, ticket)
        response = Response(status_code=204)
        set_session_cookie(response, settings, handle, session)
        return response

    async def drop(request: Request) -> Response:
        # A tab that signs out late must not take the cookie of a newer sign-in away.
        handle = request.cookies.get(settings.cookie_name, "")
        response = Response(status_code=204)
        if await run_in_threadpool(papita.sessions.by_handle, handle) is None:
            _set_cookie(response, settings, "", 0)
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


def set_session_cookie(
    response: Response, settings: PortalSettings, handle: str, session: SignInSession
) -> None:
    """Gives the browser the handle of its session, for as long as that lasts or, where its user
    does not want to be remembered, until the browser is closed.
    """
    left = int((session.expires_at - datetime.now(UTC)).total_seconds())
    _set_cookie(response, settings, handle, max(0, left) if session.remember else None)


def _set_cookie(
    response: Response, settings: PortalSettings, value: str, seconds: int | None
) -> None:
    response.set_cookie(
        settings.cookie_name,
        value,
        max_age=seconds,
        path="/",
        secure=settings.secure,
        httponly=True,
        samesite="lax",
    )


def client_address(request: Request) -> str:
    """Where the request comes from."""
    return request.client.host if request.client is not None else ""


def require_same_origin(request: Request, own_origin: str) -> None:
    """Raises `CrossSiteRefused` unless one of our own pages sent this.

    Another site can neither set our header nor send our `Origin`.
    """
    site = request.headers.get("sec-fetch-site", "same-origin")
    same = is_own_origin(request.headers, own_origin) and site == "same-origin"
    if not (same and request.headers.get(OWN_HEADER)):
        raise CrossSiteRefused


def is_own_origin(headers: Headers, own_origin: str) -> bool:
    """Whether the `Origin` of a request is that of the portal's pages.

    Behind a proxy the host that arrives may be another than the browser's, hence the public origin;
    people also use other names of the machine, hence the host. Under https, http is another origin.
    """
    origin, host = headers.get("origin", ""), headers.get("host", "")
    if origin == own_origin:
        return True
    parts = urlsplit(origin) if _looks_like_origin(origin) else None
    return (
        parts is not None
        and bool(host)
        and parts.netloc == host
        and (parts.scheme == "https" or not own_origin.startswith("https:"))
    )


def _looks_like_origin(origin: str) -> bool:
    return re.fullmatch(r"https?://[^/@\\\s]+", origin) is not None


async def body_of(request: Request, most: int = BODY_LIMIT) -> bytes:
    """The body. Raises `InvalidInput` as soon as it is too long."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise InvalidInput({"body": "This is too long."})
    return body


def _ticket(body: bytes) -> str:
    try:
        ticket = json.loads(body)["ticket"]
    except (ValueError, KeyError, TypeError):
        raise TicketRefused from None
    if not isinstance(ticket, str):
        raise TicketRefused
    return ticket
