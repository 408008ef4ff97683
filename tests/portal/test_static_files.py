"""The files of Streamlit's page: which, how they go out, and that nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from portal.front_page import STATIC, front_page, named
from portal.static_files import StaticFiles

SCRIPT = "export const words = 'again and again'\n" * 100


@pytest.fixture
def files(tmp_path: Path) -> StaticFiles:
    async def other(_: Request) -> Response:
        return PlainTextResponse("somebody else's")

    folder = tmp_path / "static"
    (folder / "js").mkdir(parents=True)
    (folder / "js" / "one.1.js").write_text(SCRIPT)
    (folder / "font.2.woff2").write_bytes(b"\0\1\2")
    (tmp_path / "secret.js").write_text("secret")
    streamlit = Starlette(routes=[Route("/{path:path}", other, methods=["GET", "POST"])])
    return StaticFiles(streamlit, folder)


def test_they_go_out_compressed_and_may_be_kept(files: StaticFiles) -> None:
    client = TestClient(files)
    for _ in range(2):  # from the disk, and from memory
        packed = client.get("/static/js/one.1.js", headers={"Accept-Encoding": "br, gzip"})
        assert (packed.headers["content-encoding"], packed.text) == ("gzip", SCRIPT)
        assert int(packed.headers["content-length"]) < len(SCRIPT) / 10
        # The latter since Streamlit has been started in this process.
        names = ("text/javascript", "application/javascript")
        assert packed.headers["content-type"].startswith(names)
        assert packed.headers["cache-control"] == "public, immutable, max-age=31536000"
        assert packed.headers["vary"] == "Accept-Encoding"
    plain = client.get("/static/js/one.1.js", headers={"Accept-Encoding": "identity"})
    assert ("content-encoding" in plain.headers, plain.text) == (False, SCRIPT)
    font = client.get("/static/font.2.woff2")
    assert ("content-encoding" in font.headers, font.content) == (False, b"\0\1\2")
    assert font.headers["content-type"] == "font/woff2"
    head = client.head("/static/js/one.1.js", headers={"Accept-Encoding": "identity"})
    assert (head.text, head.headers["content-length"]) == ("", str(len(SCRIPT)))


def test_nothing_else_is_answered(files: StaticFiles) -> None:
    client = TestClient(files)
    for path in ("/", "/static/", "/static/js", "/static/none.js", "/js/one.1.js"):
        assert client.get(path).text == "somebody else's"
    for path in ("/static/%2e%2e/secret.js", "/static/js/../../secret.js", "/static//secret.js"):
        assert "secret" not in client.get(path).text
    assert client.post("/static/js/one.1.js").text == "somebody else's"


def test_all_that_the_page_names_is_there() -> None:
    files = StaticFiles(Starlette(), STATIC / "static")
    names = named(front_page())
    assert len(names) > 50
    files.prepare([*names, "/static/none.js"])
    client = TestClient(files)
    for name in names:
        assert client.get(name).status_code == 200, name
