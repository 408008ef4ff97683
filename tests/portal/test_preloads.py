"""The scripts that a browser is told of with the page."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from portal.preloads import ELEMENTS, FOLDER, Preloads, scripts


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


def test_only_pages_name_them() -> None:
    async def page(_: Request) -> Response:
        return HTMLResponse("<html>")

    async def data(_: Request) -> Response:
        return JSONResponse({})

    app = Preloads(Starlette(routes=[Route("/", page), Route("/data", data)]))
    client = TestClient(app)
    links = client.get("/").headers["link"]
    assert "rel=modulepreload" in links
    assert "</static/js/ChatInput." in links
    assert "link" not in client.get("/data").headers
    assert "link" not in client.get("/missing").headers
