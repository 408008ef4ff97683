"""`GET /app/static/{name}`: the portal's own pictures, each under a name that changes with it.

Streamlit hands on an address of this form as it is. What it gets as a file it puts into every
message in which the picture is shown: into each bubble of a long conversation, for one.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from portal.wiring import ASSETS

PREFIX: Final = "/app/static/"
SAFE: Final = {
    "Cache-Control": "public, max-age=31536000, immutable",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@cache
def address(file: Path) -> str:
    """Where the browser gets this picture."""
    return f"{PREFIX}{file.stem}.{sha256(file.read_bytes()).hexdigest()[:8]}{file.suffix}"


def picture_routes() -> list[Route]:
    """The route."""
    known = {address(file): file.read_bytes() for file in ASSETS.glob("*.svg")}

    async def endpoint(request: Request) -> Response:
        content = known.get(request.url.path)
        if content is None:
            raise HTTPException(404)
        return Response(content, media_type="image/svg+xml", headers=SAFE)

    return [Route(PREFIX + "{name}", endpoint, methods=["GET"])]
