"""The portal as one ASGI app: Streamlit's pages, the REST API, the cookie routes, files,
pictures, health.

Served by `python -m portal`; `create_app` builds it over services that exist already.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import streamlit as st
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit.runtime.pages_manager import PagesManager

from papita_core.api.app import create_api
from papita_core.api.problems import http_problem
from papita_core.errors import PapitaError
from portal import page_sessions
from portal.cookie_routes import is_own_origin, session_routes
from portal.file_routes import file_routes
from portal.front_page import STATIC, FrontPage, front_page, named
from portal.headers import SecurityHeaders, is_own_route, page_policy
from portal.oidc_routes import oidc_routes
from portal.pictures import picture_routes
from portal.proxies import behind_proxies
from portal.static_files import StaticFiles
from portal.texts import said, translated
from portal.turns import turns
from portal.warm_up import warm_up
from portal.wiring import ROOT, Services

log = logging.getLogger(__name__)


def _explain(error: BaseException) -> bool:
    """Shows what a page did not expect as a sentence; the log has the rest."""
    if isinstance(error, PapitaError):
        log.warning("a page ended with %s", error.code)
        st.error(said(error), icon=":material/error:")
    else:
        log.error("a page failed", exc_info=error)
        st.error(translated(PapitaError.sentence), icon=":material/error:")
    return True


def create_app(services: Services, on_ready: Callable[[], None] | None = None) -> ASGIApp:
    """The app. `on_ready` is called once it can answer."""
    # Streamlit takes a folder `pages/` for its old page discovery until the first
    # `st.navigation` of the process: the first request for a page would run that page without
    # Home.py, past the door.
    PagesManager.uses_pages_directory = False
    page_sessions.install()

    @asynccontextmanager
    async def lifespan(_: st.App) -> AsyncIterator[None]:
        await run_in_threadpool(warm_up)
        await run_in_threadpool(files.prepare, named(html))
        turns.pass_through(asyncio.get_running_loop())
        # What exists by now stays; later collections need not walk over it.
        gc.collect()
        gc.freeze()
        if on_ready is not None:
            on_ready()
        yield
        turns.pass_through(None)

    html = front_page()
    streamlit = st.App(ROOT / "Home.py", on_script_error=_explain, lifespan=lifespan)
    files = StaticFiles(streamlit, STATIC / "static")
    pages = FrontPage(files, html)
    own = Starlette(routes=own_routes(services), exception_handlers={HTTPException: http_problem})

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and not is_own_origin(
            Headers(scope=scope), services.settings.origin
        ):
            # A page of another site would bring the cookie along, and act as its user.
            log.warning("refused a websocket that no page of the portal opened")
            await send({"type": "websocket.close", "code": 1008})
            return
        # Our own routes do not go through the middleware that Streamlit puts around its pages.
        mine = scope["type"] == "http" and is_own_route(scope["path"])
        await (own if mine else pages)(scope, receive, send)

    app: ASGIApp = SecurityHeaders(front, page_policy(html), secure=services.settings.secure)
    return behind_proxies(app, services.settings.trusted_proxies)


def own_routes(services: Services) -> list[BaseRoute]:
    """The routes that are not Streamlit's."""
    papita = services.papita

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        ready, reason = await run_in_threadpool(papita.ready)
        return JSONResponse({"status": reason}, status_code=200 if ready else 503)

    return [
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        *session_routes(papita, services.settings),
        *oidc_routes(papita, services.settings),
        *picture_routes(),
        *file_routes(papita, services.alchat, services.settings),
        Mount("/api", app=create_api(papita, runner=services.launcher)),
    ]
