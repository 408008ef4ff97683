"""The page that a browser gets: what it is told with it, and where it gets it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from portal.front_page import (
    ELEMENTS,
    FOLDER,
    LATER,
    STATIC,
    TOLD,
    FrontPage,
    front_page,
    react,
    ready_early,
    scripts,
)
from portal.headers import INLINE_SCRIPT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "static" / "js"
    made.mkdir(parents=True)
    (tmp_path / "index.html").write_text('<script src="./static/js/index.1.js"></script>')
    (made / "index.1.js").write_text("")
    (made / "Button.2.js").write_text('import{a as b}from"./index.1.js";import"./part.3.js";')
    (made / "part.3.js").write_text('import{x}from"./Button.2.js";import{y}from"./gone.4.js"')
    (made / "Chart.5.js").write_text("")
    return made


def test_an_element_comes_with_what_it_imports_and_without_what_the_page_names(
    folder: Path,
) -> None:
    assert scripts(["Button", "NotHere"], folder) == ["Button.2.js", "part.3.js"]


def test_streamlit_has_each_of_the_elements() -> None:
    found = scripts()
    for name in ELEMENTS:
        assert any(one.startswith(f"{name}.") for one in found), name
    # Scripts of a megabyte are not for pages without what draws by them.
    assert sum((FOLDER / one).stat().st_size for one in found) < 600_000


def test_streamlit_reads_what_it_is_told() -> None:
    html = front_page()
    told = html.index(f"<script>{TOLD}</script>")
    assert told < html.index('<script type="module"')
    # By these names; what it does then a browser shows (`tests/browser/test_first_request.py`).
    (index,) = re.findall(r'src="./static/js/(index\.[\w.-]+\.js)"', html)
    source = (FOLDER / index).read_text("utf-8")
    for name in ("window.__streamlit", *re.findall(r"\b\w+(?=:[^/])", TOLD)):
        assert name in source, name
    assert "modulepreload" in html[html.index("static/js/ChatInput.") - 80 :]
    # React is asked for them before Streamlit's own script is there; in a script that the policy
    # allows by its hash.
    early = f'<script type="module">{ready_early()}</script>'
    assert told < html.index(early) < html.index(index)
    assert ready_early() in INLINE_SCRIPT.findall(html)
    # What there was is there.
    assert html.replace(f"<script>{TOLD}</script>{early}", "").startswith(
        (STATIC / "index.html").read_text("utf-8").partition("</head>")[0]
    )


def test_what_is_asked_for_early_is_what_streamlit_has_react_load() -> None:
    sources = [one.read_text("utf-8") for one in FOLDER.glob("index.*.js")]
    for name in (*ELEMENTS, *LATER):
        # The name of the file within what is given to `lazy`: that tells which element it is.
        loads = rf"\.lazy\)\(\(\)=>.{{0,20}}import\([`\"']\./{name}\."
        assert any(re.search(loads, source) for source in sources), name
    (own,) = re.findall(r"\w[\w.-]*\.js", ready_early().partition(";")[0])
    assert own == react()


def test_a_page_without_react_is_said(folder: Path) -> None:
    with pytest.raises(RuntimeError, match="no file with React"):
        react(folder)
    (folder / "index.1.js").write_text("a.lazy=function(b){}")
    assert react(folder) == "index.1.js"


def test_only_the_addresses_of_pages_get_it() -> None:
    async def other(_: Request) -> Response:
        return HTMLResponse("somebody's")

    streamlit = Starlette(routes=[Route("/{path:path}", other, methods=["GET", "POST"])])
    client = TestClient(FrontPage(streamlit, front_page()))
    for address in ("/", "/al-chat", "/users?page=2"):
        answer = client.get(address)
        assert (answer.text, answer.headers["cache-control"]) == (front_page(), "no-cache")
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
    # A file that a user downloads is nobody's page.
    for address in ("/media/export.html", "/al-chat/", "/nowhere", "/_stcore/health"):
        assert client.get(address).text == "somebody's"
    assert client.post("/al-chat").text == "somebody's"


def test_a_browser_that_has_the_page_is_told_so() -> None:
    client = TestClient(FrontPage(Starlette(), front_page()))
    packed = client.get("/al-chat", headers={"Accept-Encoding": "br, gzip"})
    plain = client.get("/al-chat", headers={"Accept-Encoding": "identity"})
    assert (packed.headers["content-encoding"], packed.text) == ("gzip", plain.text)
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"]) / 2
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    known = {"If-None-Match": plain.headers["etag"]}
    assert client.get("/al-chat", headers=known).status_code == 304
    assert client.get("/al-chat", headers={"If-None-Match": '"other"'}).status_code == 200
    head = client.head("/al-chat", headers={"Accept-Encoding": "identity"})
    assert (head.text, head.headers["content-length"]) == ("", plain.headers["content-length"])
