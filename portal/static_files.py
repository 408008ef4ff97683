"""Streamlit's scripts, styles and fonts, from memory and compressed.

Streamlit reads each of them from the disk for each browser, through all of its middleware, and does
not compress them, since it would do that anew each time. A page that nothing is cached of asks for
over a hundred. Their names tell their contents apart, so what was read once stays right.
"""

from __future__ import annotations

import gzip
import mimetypes
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

PATH: Final = "/static/"
COMPRESSED: Final = frozenset({".js", ".css", ".svg", ".map", ".json"})
VARY: Final = "Accept-Encoding"
FOR_EVER: Final = {"Cache-Control": "public, immutable, max-age=31536000"}


@dataclass(frozen=True, slots=True)
class Kept:
    """A file as it goes out; `packed` is None where that would save nothing."""

    plain: bytes
    packed: bytes | None
    media_type: str

    @classmethod
    def of(cls, plain: bytes, media_type: str, *, pack: bool) -> Kept:
        return cls(plain, gzip.compress(plain, 6, mtime=0) if pack else None, media_type)

    def answer(self, scope: Scope, headers: Mapping[str, str]) -> Response:
        """In the form that whoever asks takes."""
        headers = {**headers, "Vary": VARY}
        body = self.plain
        if self.packed is not None and "gzip" in Headers(scope=scope).get("accept-encoding", ""):
            body, headers["Content-Encoding"] = self.packed, "gzip"
        return Response(body, headers=headers, media_type=self.media_type)


def is_read(scope: Scope, paths: Container[str]) -> bool:
    """Whether one of these addresses is to be read."""
    return scope["type"] == "http" and scope["method"] in ("GET", "HEAD") and scope["path"] in paths


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
        self._read: dict[str, Kept] = {}

    def prepare(self, paths: Iterable[str]) -> None:
        """Reads these before they are asked for; those that are not there are left out."""
        for path in paths:
            if path in self._files:
                self._get(path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_read(scope, self._files):
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        found = self._read.get(path)
        if found is None:
            found = await run_in_threadpool(self._get, path)
        await found.answer(scope, FOR_EVER)(scope, receive, send)

    def _get(self, path: str) -> Kept:
        media_type = mimetypes.guess_type(path)[0] or "application/octet-stream"
        pack = Path(path).suffix in COMPRESSED
        kept = self._read[path] = Kept.of(self._files[path].read_bytes(), media_type, pack=pack)
        return kept
