"""`/auth/session`, health and the headers, over the real services."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from papita_core.users.service import User
from portal.cookie_routes import session_routes
from portal.file_routes import file_routes
from portal.front_page import front_page
from portal.headers import SecurityHeaders, page_policy
from portal.pictures import address, picture_routes
from portal.settings import PortalSettings
from portal.wiring import MARK, Services

OWN = {"X-Papita-Portal": "1"}


def client_for(services: Services, settings: PortalSettings) -> TestClient:
    async def page(_: object) -> PlainTextResponse:
        return PlainTextResponse("page")

    async def stream(_: object) -> StreamingResponse:
        return StreamingResponse(iter(["a", "b"]), headers={"Content-Security-Policy": "own"})

    app = Starlette(
        routes=[
            Route("/", page),
            Route("/api/x", page),
            Route("/stream", stream),
            *session_routes(services.papita, settings),
            *file_routes(services.papita, services.alchat, settings),
            *picture_routes(),
        ],
        middleware=[Middleware(SecurityHeaders, page_policy(""), secure=settings.secure)],
    )
    return TestClient(app, base_url=settings.origin, headers={"Origin": settings.origin})


@pytest.fixture
def client(services: Services, settings: PortalSettings) -> Iterator[TestClient]:
    with client_for(services, settings) as made:
        yield made


def ticket_for(services: Services, user: User) -> str:
    return services.papita.sessions.start(user.id).ticket


def test_a_ticket_is_traded_once_for_a_cookie_that_scripts_cannot_read(
    client: TestClient, services: Services, ana: User
) -> None:
    ticket = ticket_for(services, ana)
    answer = client.post("/auth/session", json={"ticket": ticket}, headers=OWN)
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert answer.headers["cache-control"] == "no-store"
    session = services.papita.sessions.by_handle(client.cookies["papita_session"])
    assert session is not None
    assert session.username == "ana"
    again = client.post("/auth/session", json={"ticket": ticket}, headers=OWN)
    assert (again.status_code, again.json()["code"]) == (401, "ticket-refused")


def test_a_picture_is_kept_by_browsers_under_a_name_that_changes_with_it(
    client: TestClient, tmp_path: Path
) -> None:
    answer = client.get(address(MARK))
    assert (answer.status_code, answer.content) == (200, MARK.read_bytes())
    assert answer.headers["content-type"] == "image/svg+xml"
    assert "immutable" in answer.headers["cache-control"]
    # A picture of this kind could bring a script of its own; opened by itself it may run none.
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    other = tmp_path / MARK.name
    other.write_bytes(MARK.read_bytes() + b"<!-- -->")
    assert address(other) != address(MARK)
    assert client.get(address(other)).status_code == 404


def test_under_https_the_cookie_is_secure_and_bound_to_the_host(
    services: Services, ana: User
) -> None:
    settings = services.settings.model_copy(update={"public_url": "https://papita.example"})
    with client_for(services, settings) as client:
        ticket = ticket_for(services, ana)
        answer = client.post("/auth/session", json={"ticket": ticket}, headers=OWN)
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-papita_session=")
        assert "Secure" in cookie
        assert answer.headers["strict-transport-security"].startswith("max-age=")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {**OWN, "Origin": "https://evil.example"},
        {**OWN, "Origin": "null"},
        {**OWN, "Origin": ""},
        {**OWN, "Sec-Fetch-Site": "cross-site"},
        {**OWN, "Sec-Fetch-Site": "same-site"},
    ],
    ids=["without our header", "foreign", "null", "none", "cross-site", "same-site"],
)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_only_our_own_pages_are_heard(
    client: TestClient, services: Services, ana: User, headers: dict[str, str], method: str
) -> None:
    ticket = ticket_for(services, ana)
    answer = client.request(method, "/auth/session", json={"ticket": ticket}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "cross-site")
    assert "set-cookie" not in answer.headers
    services.papita.sessions.redeem(ticket)


def test_behind_a_proxy_the_public_origin_is_ours(
    client: TestClient, services: Services, ana: User
) -> None:
    headers = {**OWN, "Host": "10.0.0.7:3000", "Origin": services.settings.origin}
    answer = client.post(
        "/auth/session", json={"ticket": ticket_for(services, ana)}, headers=headers
    )
    assert answer.status_code == 204


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 401),
        (b"[]", 401),
        (b'{"ticket": 1}', 401),
        (b'{"ticket": "x"}', 401),
        (b"x" * 5000, 422),
        (b"\xff\xfe", 401),
    ],
)
def test_what_is_no_ticket_is_refused_without_an_echo(
    client: TestClient, body: bytes, status: int
) -> None:
    answer = client.post("/auth/session", content=body, headers=OWN)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert "xxxx" not in answer.text


def test_sign_out_drops_the_cookie_but_never_a_newer_one(
    client: TestClient, services: Services, ana: User
) -> None:
    sessions = services.papita.sessions
    client.post("/auth/session", json={"ticket": ticket_for(services, ana)}, headers=OWN)
    kept = client.delete("/auth/session", headers=OWN)
    assert kept.status_code == 204
    assert "set-cookie" not in kept.headers
    live = sessions.by_handle(client.cookies["papita_session"])
    assert live is not None
    sessions.end(live.id)
    dropped = client.delete("/auth/session", headers=OWN)
    assert "Max-Age=0" in dropped.headers["set-cookie"]


def test_every_response_has_the_headers_and_a_route_may_set_its_own(client: TestClient) -> None:
    for path in ("/", "/api/x", "/stream", "/nowhere"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "same-origin"
    assert "frame-ancestors 'none'" in client.get("/").headers["content-security-policy"]
    assert "script-src" not in client.get("/api/x").headers["content-security-policy"]
    assert client.get("/stream").headers["content-security-policy"] == "own"
    assert client.get("/stream").text == "ab"


def test_the_policy_allows_exactly_the_inline_scripts_of_the_page() -> None:
    html = front_page()
    scripts = re.findall(r'<script(?: type="module")?>(.*?)</script>', html, re.DOTALL)
    policy = page_policy(html)
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    # Streamlit's own, what the portal tells it, and what has the elements ready early.
    assert len(scripts) == 3
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in directives["script-src"]
    assert directives["script-src"].count("'sha256-") == 3
    assert "'unsafe-inline'" not in directives["script-src"]
    assert "'unsafe-eval'" not in directives["script-src"]
    assert "*" not in policy
    assert directives["default-src"] == "'none'"
    assert "'sha256-" not in page_policy("<html></html>")


def test_a_file_is_for_whoever_is_signed_in(
    client: TestClient, services: Services, ana: User
) -> None:
    stranger = client.get("/files/att-1")
    assert (stranger.status_code, stranger.json()["code"]) == (401, "unauthenticated")
    assert stranger.headers["cache-control"] == "no-store"
    ticket = ticket_for(services, ana)
    client.post("/auth/session", json={"ticket": ticket}, headers=OWN)
    assert client.get("/files/not-an-id").status_code == 404
    # Whose it is, AL-Chat would say, but it does not run here.
    waiting = client.get("/files/att_1")
    assert (waiting.status_code, waiting.json()["code"]) == (503, "project-unavailable")
