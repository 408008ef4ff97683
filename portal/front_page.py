"""What a browser gets at the address of any page: Streamlit's own page, with additions that bring
it to its first run sooner.

Streamlit asks at two addresses where its server is, and for settings, before it opens the
connection; one that is told both opens it at once. And it loads the script of an element when it
draws the first of its kind: those of the chat page come when page, connection and a run are there,
one after the other. Worse, React draws what it had to wait for after everything else: as long as
messages come, an element whose script is there already is a grey bar. Named in the page they are
fetched and compiled while it waits for all that, and React is asked for them before it draws any.
Those of other pages and of dialogs it is asked for when the page has been there for a while.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import streamlit
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from portal.navigation import PAGES
from portal.static_files import VARY, Kept, is_read

STATIC: Final = Path(streamlit.__file__).parent / "static"
FOLDER: Final = STATIC / "static" / "js"
ELEMENTS: Final = (
    "BidiComponent",
    "Button",
    "ChatInput",
    "Checkbox",
    "Html",
    "MenuButton",
    "TextInput",
)
# What the other pages and the dialogs are made of, the most frequent first: for when the browser
# has nothing else to do.
LATER: Final = (
    "Selectbox",
    "TextArea",
    "FileUploader",
    "ButtonGroup",
    "PageLink",
    "LinkButton",
    "Radio",
    "Toast",
    "Spinner",
    "Progress",
    "NumberInput",
    "Multiselect",
    "DownloadButton",
    "DateInput",
)
LATER_MS: Final = 1000
# No page may command this one; a list with nobody in it Streamlit would not take for a setting.
TOLD: Final = (
    "window.__streamlit={BACKEND_BASE_URL:location.origin,"
    'HOST_CONFIG:{allowedOrigins:["https://nobody.invalid"],useExternalAuthToken:false}}'
)
ADDRESSES: Final = frozenset(f"/{entry.path}" for entry in PAGES)
_IMPORT: Final = re.compile(r"""(?:\bfrom|\bimport)\s*["']\./([\w.-]+\.js)["']""")


def _of(element: str, folder: Path) -> list[str]:
    """The file of an element; none if this version of Streamlit has not got it."""
    return [file.name for file in sorted(folder.glob(f"{element}.*.js"))]


def _of_the_page(folder: Path) -> list[str]:
    """The files of scripts that Streamlit's page names itself."""
    html = (folder.parent.parent / "index.html").read_text("utf-8")
    return [Path(address).name for address in named(html) if address.endswith(".js")]


def scripts(elements: Iterable[str] = ELEMENTS, folder: Path = FOLDER) -> list[str]:
    """The files of these elements and all that they import, without what the page names itself."""
    there = set(_of_the_page(folder))
    found: dict[str, None] = {}
    left = [name for one in elements for name in _of(one, folder)]
    while left:
        name = left.pop()
        file = folder / name
        if name in there or name in found or not file.is_file():
            continue
        found[name] = None
        left.extend(_IMPORT.findall(file.read_text("utf-8")))
    return sorted(found)


def named(html: str) -> list[str]:
    """The addresses of all files that the page names, for those who have none of them."""
    return [f"/{path}" for path in re.findall(r'"\./(static/[\w./-]+)"', html)]


def react(folder: Path = FOLDER) -> str:
    """The name of the file that React is in."""
    for name in _of_the_page(folder):
        if ".lazy=function(" in (folder / name).read_text("utf-8"):
            return name
    raise RuntimeError("Streamlit's page names no file with React in it.")


def ready_early() -> str:
    """The script that has elements ready when the first of each is drawn.

    It is a module, ahead of Streamlit's own, which takes React from the same file.
    """
    names = json.dumps([*ELEMENTS, *LATER], separators=(",", ":"))
    return (
        f'import*as file from"./static/js/{react()}";const names={names},made=new Map;'
        # React itself is what the one function returns that wants nothing.
        "for(const one of Object.values(file)){"
        'const react=typeof one==="function"&&!one.length&&one();if(!react?.lazy)continue;'
        "const{lazy}=react;react.lazy=load=>{const one=lazy(load);"
        "made.set(/\\.\\/(\\w+)\\./.exec(load)?.[1],one);return one}}"
        # As React asks for it itself, which is told by what is thrown that it is not there yet.
        "const ask=name=>{const one=made.get(name);if(one)try{one._init(one._payload)}catch{}},"
        "idle=window.requestIdleCallback||setTimeout,"
        "next=()=>{if(names.length){ask(names.shift());idle(next)}};"
        'addEventListener("DOMContentLoaded",()=>{'
        f"for(const name of names.splice(0,{len(ELEMENTS)}))ask(name);"
        f"setTimeout(()=>idle(next),{LATER_MS})}})"
    )


def front_page() -> str:
    """The HTML of the page, the same for everybody."""
    links = "".join(
        f'<link rel="modulepreload" crossorigin href="./static/js/{name}">' for name in scripts()
    )
    index = (STATIC / "index.html").read_text("utf-8")
    begin, head, rest = index.partition("<head>")
    before, end, after = rest.partition("</head>")
    told, early = f"<script>{TOLD}</script>", f'<script type="module">{ready_early()}</script>'
    return f"{begin}{head}{told}{early}{before}{links}{end}{after}"


class FrontPage:
    """Middleware around Streamlit's app: answers at the addresses of pages."""

    def __init__(self, app: ASGIApp, html: str) -> None:
        self._app = app
        self._page = Kept.of(html.encode(), "text/html", pack=True)
        digest = hashlib.sha256(self._page.plain).hexdigest()[:32]
        self._headers = {"Cache-Control": "no-cache", "ETag": f'W/"{digest}"'}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_read(scope, ADDRESSES):
            await self._app(scope, receive, send)
            return
        answer = self._page.answer(scope, self._headers)
        if self._headers["ETag"] in Headers(scope=scope).get("if-none-match", ""):
            answer = Response(status_code=304, headers={**self._headers, "Vary": VARY})
        await answer(scope, receive, send)
