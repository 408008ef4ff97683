"""Tells a browser with the page itself which scripts the chat page will need.

Streamlit loads the script of an element when it draws the first of its kind: those of the input
come when page, connection and a run are there, one after the other. Named in a header of the page
they are fetched and compiled while it waits for all that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import streamlit
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FOLDER: Final = Path(streamlit.__file__).parent / "static" / "static" / "js"
ELEMENTS: Final = (
    "BidiComponent",
    "Button",
    "ChatInput",
    "Checkbox",
    "Html",
    "MenuButton",
    "TextInput",
)
_IMPORT: Final = re.compile(r"""(?:\bfrom|\bimport)\s*["']\./([\w.-]+\.js)["']""")


def scripts(elements: Iterable[str] = ELEMENTS, folder: Path = FOLDER) -> list[str]:
    """The files of these elements and all that they import, without what the page names itself.
    An element that this version of Streamlit has not is left out.
    """
    index = folder.parent.parent / "index.html"
    named = set(re.findall(r"static/js/([\w.-]+\.js)", index.read_text("utf-8")))
    found: dict[str, None] = {}
    left = [file.name for one in elements for file in sorted(folder.glob(f"{one}.*.js"))]
    while left:
        name = left.pop()
        file = folder / name
        if name in named or name in found or not file.is_file():
            continue
        found[name] = None
        left.extend(_IMPORT.findall(file.read_text("utf-8")))
    return sorted(found)


class Preloads:
    """Middleware around Streamlit's app: adds the header to its pages."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._links = ", ".join(
            f"</static/js/{name}>; rel=modulepreload; crossorigin" for name in scripts()
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._links:
            await self._app(scope, receive, send)
            return

        async def send_with_links(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                headers = MutableHeaders(scope=message)
                if headers.get("content-type", "").startswith("text/html"):
                    headers.append("Link", self._links)
            await send(message)

        await self._app(scope, receive, send_with_links)
