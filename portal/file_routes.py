"""`GET /files/{id}`: what the user has attached, for the pictures and links of the chat page.

The browser asks for it when it comes into view; nothing of it goes through a page's script. Whose
file it is, AL-Chat decides.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from alchat_core.client import AlChatClient, AlChatError
from alchat_core.client import NotFound as NotThere
from papita_core.actors import Actor
from papita_core.api.problems import from_error
from papita_core.app import Papita
from papita_core.errors import NotFound, PapitaError, ProjectUnavailable, Unauthenticated
from portal.settings import PortalSettings
from portal.wiring import AL_CHAT

PREFIX = "/files/"
# What a browser draws without running anything of it; all else is saved.
DRAWN = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})
SAFE = {
    "Cache-Control": "private, max-age=600",
    "Vary": "Cookie",  # what one user's browser keeps is not for the next who signs in there
    "Content-Security-Policy": "default-src 'none'; sandbox; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def file_routes(papita: Papita, alchat: AlChatClient, settings: PortalSettings) -> list[Route]:
    """The route, over one Papita and one AL-Chat."""

    def read(handle: str, file_id: str) -> Response:
        session = papita.sessions.by_handle(handle) if handle else None
        if session is None:
            raise Unauthenticated
        actor = Actor.for_session(session)
        user = alchat.as_user(lambda: papita.projects.user_token(actor, AL_CHAT).token)
        try:
            found = user.attachment(file_id)
            content = user.attachment_content(file_id)
        except NotThere:
            raise NotFound from None
        except AlChatError:
            raise ProjectUnavailable from None
        kind = "inline" if found.media_type in DRAWN else "attachment"
        headers = {**SAFE, "Content-Disposition": _disposition(kind, found.name)}
        return Response(content, media_type=found.media_type, headers=headers)

    async def endpoint(request: Request) -> Response:
        handle = request.cookies.get(settings.cookie_name, "")
        try:
            return await run_in_threadpool(read, handle, request.path_params["file_id"])
        except PapitaError as error:
            response = from_error(error)
            response.headers["Cache-Control"] = "no-store"
            return response

    return [Route(PREFIX + "{file_id}", endpoint, methods=["GET"])]


def _disposition(kind: str, name: str) -> str:
    """RFC 6266, with a plain name for old programs."""
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
