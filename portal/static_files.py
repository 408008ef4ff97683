"""Streamlit's scripts, styles and fonts, from memory and compressed.

Streamlit reads each of them from the disk for each browser, through all of its middleware, and does
not compress them, since it would do that anew each time. A page that nothing is cached of asks for
over a hundred. Their names tell their contents apart, so what was read once stays right.
"""

from __future__ import annotations

import gzip
import mimetypes
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

PATH: Final = "/static/"
COMPRESSED: Final = frozenset({".js", ".css", ".svg", ".map", ".json"})
_HEADERS: Final = {
    "Cache-Control": "public, immutable, max-age=31536000",
    "Vary": "Accept-Encoding",
}


@dataclass(frozen=True, slots=True)
class _Read:
    """A file as it goes out; `packed` is None where that would save nothing."""

    plain: bytes
    packed: bytes | None
    media_type: str


class StaticFiles:
    """Middleware around Streamlit's app: answers below `PATH` with what lies in `folder`."""

    def __init__(self, app: ASGIApp, folder: Path) -> None:
        self._app = app
        # Found once: no address can lead anywhere else.
        self._files = {
            PATH + file.relative_to(folder).as_posix(): file
            for file in folder.rglob("*")
            if file.is_file()
        }
        self._read: dict[str, _Read] = {}

    def prepare(self, paths: Iterable[str]) -> None:
        """Reads these before they are asked for; those that are not there are left out."""
        for path in paths:
            if path in self._files:
                self._get(path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] != "http"
            or scope["method"] not in ("GET", "HEAD")
            or scope["path"] not in self._files
        ):
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        found = self._read.get(path)
        if found is None:
            found = await run_in_threadpool(self._get, path)
        asked = Headers(scope=scope).get("accept-encoding", "")
        if found.packed is None or "gzip" not in asked:
            answer = Response(found.plain, headers=_HEADERS, media_type=found.media_type)
        else:
            headers = {**_HEADERS, "Content-Encoding": "gzip"}
            answer = Response(found.packed, headers=headers, media_type=found.media_type)
        await answer(scope, receive, send)

    def _get(self, path: str) -> _Read:
        plain = self._files[path].read_bytes()
        packed = gzip.compress(plain, 6, mtime=0) if Path(path).suffix in COMPRESSED else None
        media_type = mimetypes.guess_type(path)[0] or "application/octet-stream"
        read = self._read[path] = _Read(plain, packed, media_type)
        return read
