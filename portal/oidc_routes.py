"""`/auth/oidc/…`: to an OpenID Connect provider, back from it, and logged out by it.

    GET  /auth/oidc/login                 a stranger signs in: to the provider
    POST /auth/oidc/begin                 a user links an account, or proves who they are
    GET  /auth/oidc/callback[/{provider}] back from the provider: to the page that was asked for
    POST /auth/oidc/backchannel-logout    the provider ends sessions (Back-Channel Logout 1.0)

A browser that comes back is sent on to a page of ours in any case, and takes along a code for what
went wrong; nothing that a provider or a stranger sent is repeated.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import anyio.to_thread
from anyio import CapacityLimiter
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from papita_core.api.problems import from_error
from papita_core.app import Papita
from papita_core.errors import (
    InvalidInput,
    NotFound,
    PapitaError,
    TooManyAttempts,
    Unauthenticated,
    VaultSealed,
)
from papita_core.users.limits import Limit, Try, network_of
from papita_core.users.oidc.attempts import ATTEMPT_LIFE, BrowserSecret, Purpose
from papita_core.users.oidc.errors import Refused
from papita_core.users.oidc.service import Answer, Done
from papita_core.users.sessions import SignInSession
from portal.cookie_routes import body_of, client_address, require_same_origin, set_session_cookie
from portal.navigation import PAGES
from portal.settings import PortalSettings

log = logging.getLogger(__name__)

PROBLEM = "oidc"  # the query parameter that takes a code for what became of it to a page
LINKED, PROVED = "linked", "proved"
FROM_ADDRESS = Limit("oidc.address", 60, timedelta(minutes=5))
# Logout tokens that are none: looking at each may mean asking the provider for its keys.
NO_LOGOUT = Limit("oidc-logout.address", 60, timedelta(minutes=5))
# A provider that hangs must not take the threads of everything else.
AT_ONCE = 12
LOGOUT_BODY = 64 * 1024
MAX_NEXT = 300  # characters

T = TypeVar("T")


def oidc_routes(papita: Papita, settings: PortalSettings) -> list[Route]:
    """The routes, over one Papita; none where no provider is configured."""
    oidc = papita.oidc
    if not oidc.providers:
        return []
    limiter = CapacityLimiter(AT_ONCE)
    cookie_name = ("__Host-" if settings.secure else "") + "papita_oidc"

    async def aside(call: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(call, limiter=limiter)

    def browser_of(request: Request) -> tuple[BrowserSecret, BrowserSecret | None]:
        """The secret for a new attempt, and the one that the browser has."""
        known = BrowserSecret.of(request.cookies.get(cookie_name))
        return known or BrowserSecret.fresh(), known

    def bind(response: Response, secret: BrowserSecret) -> None:
        # Lax, since the browser comes back from another site.
        response.set_cookie(
            cookie_name,
            secret.value,
            max_age=int(ATTEMPT_LIFE.total_seconds()),
            path="/",
            secure=settings.secure,
            httponly=True,
            samesite="lax",
        )

    def session_of(request: Request) -> SignInSession | None:
        handle = request.cookies.get(settings.cookie_name, "")
        return papita.sessions.by_handle(handle) if handle else None

    def begin(
        request: Request,
        provider: str,
        purpose: Purpose,
        secret: BrowserSecret,
        **how: Any,
    ) -> str:
        address = client_address(request)
        papita.limits.hit(Try(FROM_ADDRESS, network_of(address), address=address))
        session = None if purpose == "sign-in" else session_of(request)
        if purpose != "sign-in" and session is None:
            raise Unauthenticated
        return oidc.begin(provider, purpose, secret, session=session, **how)

    async def login(request: Request) -> Response:
        wanted = page_of(request.query_params.get("next", ""))
        secret, _ = browser_of(request)

        def call() -> str:
            return begin(
                request,
                request.query_params.get("provider", ""),
                "sign-in",
                secret,
                next_page=wanted,
                remember=request.query_params.get("remember") == "1",
            )

        try:
            address = await aside(call)
        except PapitaError as error:
            return RedirectResponse(with_problem(wanted, error), 303)
        response = RedirectResponse(address, 303)
        bind(response, secret)
        return response

    async def begin_here(request: Request) -> Response:
        require_same_origin(request, settings.origin)
        asked = _object(await body_of(request))
        purpose = asked.get("purpose")
        if purpose not in ("link", "proof"):
            raise InvalidInput({"purpose": "The purposes are link and proof."})
        secret, _ = browser_of(request)

        def call() -> str:
            return begin(
                request,
                str(asked.get("provider", "")),
                purpose,
                secret,
                next_page=page_of(str(asked.get("next", ""))),
            )

        try:
            address = await aside(call)
        except Refused as refusal:
            address = with_problem(page_of(str(asked.get("next", ""))), refusal)
        response = JSONResponse({"location": address})
        bind(response, secret)
        return response

    async def callback(request: Request) -> Response:
        query = request.query_params
        answer = Answer(
            state=query.get("state", ""),
            code=query.get("code"),
            error=query.get("error"),
            iss=query.get("iss"),
            callback=request.path_params.get("provider"),
        )
        _, secret = browser_of(request)
        address = client_address(request)

        def call() -> tuple[Done, str | None, SignInSession | None]:
            """What was done, and the handle of a fresh session or of the one with raised rights."""
            before = session_of(request)
            done = oidc.finish(answer, secret, session=before, address=address)
            if done.attempt.purpose == "link":
                return done, None, None
            if done.attempt.purpose == "proof":
                ticket = papita.sessions.prove(str(done.attempt.session_id))
                return done, *papita.sessions.redeem(ticket)
            if done.user is None:
                raise Unauthenticated
            started = papita.sessions.start(
                done.user.id,
                address=address,
                user_agent=request.headers.get("user-agent", ""),
                method="oidc",
                remember=done.attempt.remember,
                provider=done.session,
            )
            if before is not None:
                # Its handle is about to be forgotten by this browser.
                papita.sessions.end(before.id)
            return done, *papita.sessions.redeem(started.ticket)

        try:
            done, handle, session = await aside(call)
        except PapitaError as error:
            wanted = error.next_page if isinstance(error, Refused) else "/"
            return RedirectResponse(with_problem(wanted, error), 303)
        # Once more: what was checked when the attempt began may come from an older portal.
        wanted = page_of(done.attempt.next_page)
        code = {"link": LINKED, "proof": PROVED}.get(done.attempt.purpose)
        response = RedirectResponse(wanted if code is None else with_code(wanted, code), 303)
        if handle is not None and session is not None:
            set_session_cookie(response, settings, handle, session)
        return response

    async def logout(request: Request) -> Response:
        address = client_address(request)
        attempt = Try(NO_LOGOUT, network_of(address), address=address)
        await aside(lambda: papita.limits.check(attempt))
        try:
            form = parse_qs((await body_of(request, LOGOUT_BODY)).decode("ascii"))
            (token,) = form.get("logout_token", [])
            count = await aside(lambda: oidc.back_channel_logout(token))
        except (PapitaError, ValueError):
            await aside(lambda: papita.limits.hit(attempt))
            return JSONResponse({"error": "invalid_request"}, 400)
        log.info("a provider has ended %s sessions", count)
        return Response(status_code=200)

    def endpoint(route: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def answered(request: Request) -> Response:
            try:
                if request.method == "HEAD":
                    raise NotFound
                response: Response = await route(request)
            except PapitaError as error:
                response = from_error(error)
            response.headers["Cache-Control"] = "no-store"
            # The address of this very answer holds a code.
            response.headers["Referrer-Policy"] = "no-referrer"
            return response

        return answered

    return [
        Route("/auth/oidc/login", endpoint(login), methods=["GET"]),
        Route("/auth/oidc/begin", endpoint(begin_here), methods=["POST"]),
        Route("/auth/oidc/callback", endpoint(callback), methods=["GET"]),
        Route("/auth/oidc/callback/{provider}", endpoint(callback), methods=["GET"]),
        Route("/auth/oidc/backchannel-logout", endpoint(logout), methods=["POST"]),
    ]


def page_of(wanted: str) -> str:
    """The address of one of our pages, with its query, or `/`. Nothing else leads anywhere.

    What comes out is put together anew from our own table of pages, so there is no way of writing
    another site's address that would pass.
    """
    if len(wanted) > MAX_NEXT or not wanted.startswith("/") or not wanted.isprintable():
        return "/"
    try:
        parts = urlsplit(wanted)
    except ValueError:
        return "/"
    path = parts.path[1:]
    if parts.scheme or parts.netloc or "\\" in wanted or all(path != page.path for page in PAGES):
        return "/"
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    query = urlencode([(name, value) for name, value in pairs if name != PROBLEM])
    made = f"/{path}?{query}" if query else f"/{path}"
    return made if len(made) <= MAX_NEXT else f"/{path}"


def with_problem(page: str, error: PapitaError) -> str:
    """The page, with a code for what went wrong, of which the door has a sentence."""
    code = "failed"
    if isinstance(error, Refused):
        code = error.reason
    elif isinstance(error, TooManyAttempts):
        code = "too-many"
    elif isinstance(error, VaultSealed):
        code = "sealed"
    elif isinstance(error, NotFound):
        code = "unknown-provider"
    return with_code(page, code)


def with_code(page: str, code: str) -> str:
    page = page_of(page)
    return f"{page}{'&' if '?' in page else '?'}{urlencode({PROBLEM: code})}"


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidInput({"body": "Send a JSON object."})
    return found
