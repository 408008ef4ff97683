"""Who is calling: a personal access token, the session cookie from the portal's own pages, or a
project by its client secret.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import unquote_plus

from fastapi import Depends, Request

from papita_core.actors import Actor
from papita_core.app import Papita
from papita_core.errors import ClientRefused, CrossSiteRefused, Unauthenticated
from papita_core.projects.service import ProjectRunner
from papita_core.settings import Settings, origin_of
from papita_core.users.access_tokens import PREFIX

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Parts:
    """What the routes work with."""

    papita: Papita
    runner: ProjectRunner


async def parts(request: Request) -> Parts:
    # A plain function would be run on a thread of the pool.
    found: Parts = request.app.state.parts
    return found


def bearer(request: Request) -> str | None:
    """The bearer token of the request, or None."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" and value.strip() else None


def same_origin(request: Request, settings: Settings) -> bool:
    """Whether a browser sent this from the portal's own pages (or no browser sent it)."""
    site = request.headers.get("sec-fetch-site")
    if site is not None and site != "same-origin":
        return False
    origin = request.headers.get("origin")
    if origin is None:
        return site is not None or request.method in SAFE
    try:
        found = origin_of(origin)
    except ValueError:
        return False
    host = request.headers.get("host", "")
    return found == settings.origin or (
        settings.public_url is None and found == f"http://{host}".lower()
    )


def actor(request: Request) -> Actor:
    """Raises `Unauthenticated`, and `CrossSiteRefused` for a cookie sent from elsewhere."""
    shared: Parts = request.app.state.parts
    papita = shared.papita
    token = bearer(request)
    if token is not None:
        found = papita.access_tokens.actor(token) if token.startswith(PREFIX) else None
        if found is None:
            raise Unauthenticated
        return found
    handle = request.cookies.get(papita.settings.cookie_name, "")
    session = papita.sessions.by_handle(handle)
    if session is None:
        raise Unauthenticated
    if not same_origin(request, papita.settings):
        raise CrossSiteRefused
    return Actor.for_session(session)


CallingActor = Annotated[Actor, Depends(actor)]
CallingParts = Annotated[Parts, Depends(parts)]


async def client(request: Request, shared: CallingParts) -> str:
    """The project that is calling, by HTTP Basic. Raises `ClientRefused`."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    try:
        if scheme.lower() == "basic":
            client_id, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
            try:
                return shared.papita.grants.client_project(client_id, secret)
            except ClientRefused:
                # RFC 6749, section 2.3.1, encodes both before joining them; many clients do not.
                return shared.papita.grants.client_project(
                    unquote_plus(client_id), unquote_plus(secret)
                )
    except (binascii.Error, UnicodeDecodeError):
        pass
    raise ClientRefused


CallingProject = Annotated[str, Depends(client)]
