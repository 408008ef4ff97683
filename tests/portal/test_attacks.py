"""Attacks on sign-in and sessions, each by its name, against the whole portal as one app.

More are in tests/papita_core/users: test_sign_in.py (brute force, locking out, enumeration by
words), test_sign_in_timing.py (by time), test_sessions.py (fixation); and in
tests/browser/test_sign_in.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from fastapi.routing import iter_route_contexts
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from papita_core.actors import Actor
from papita_core.users.service import NewUser, User
from portal.navigation import PAGES
from portal.proxies import behind_proxies
from portal.server import create_app, own_routes
from portal.wiring import Services
from tests.portal.conftest import PASSWORD

SAFE = {"GET", "HEAD", "OPTIONS"}
FOREIGN = (
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "same-site"},
    {},
)


@pytest.fixture
def client(services: Services) -> TestClient:
    app = create_app(services)
    return TestClient(
        app, services.settings.origin, raise_server_exceptions=False, follow_redirects=False
    )


def signed_in(services: Services, user: User) -> dict[str, str]:
    started = services.papita.sessions.start(user.id)
    handle, _ = services.papita.sessions.redeem(started.ticket)
    return {"Cookie": f"papita_session={handle}"}


def every_route(services: Services) -> Iterator[tuple[str, str]]:
    """Method and path of each route that is ours, with something in the place of each parameter."""
    for route in own_routes(services):
        if isinstance(route, Mount):
            for context in iter_route_contexts(getattr(route.app, "routes", [])):
                original = context.original_route
                for method in getattr(original, "methods", None) or ():
                    yield method, route.path + filled(getattr(context, "path", original.path))
        elif isinstance(route, Route):
            for method in route.methods or ():
                yield method, filled(route.path)


def filled(path: str) -> str:
    return re.sub(r"{[^}]+}", "x", path)


def test_csrf_on_every_state_changing_route(
    client: TestClient, services: Services, ana: User
) -> None:
    """Attack: a page of another site sends requests along with the user's cookie."""
    changing = {(method, path) for method, path in every_route(services) if method not in SAFE}
    assert {"POST /auth/session", "DELETE /auth/session", "POST /api/credentials"} <= {
        " ".join(route) for route in changing
    }
    cookie = signed_in(services, ana)
    through = []
    for method, path in sorted(changing):
        for headers in FOREIGN:
            answer = client.request(method, path, json={}, headers={**cookie, **headers})
            refused = answer.status_code == 403 and answer.json()["code"] == "cross-site"
            # Or it takes no cookie: a project says by its own secret who it is.
            if not refused and answer.status_code != 401:
                through.append((method, path, headers, answer.status_code))
    assert through == []


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "",
        None,
        "http://localhost:1",
        "http://localhost:{port}.evil.example",
        "http://evil.example@localhost:{port}",
        "http://localhost:{port}/",
    ],
)
def test_a_websocket_from_a_foreign_origin(
    client: TestClient, services: Services, ana: User, origin: str | None
) -> None:
    """Attack: a page of another site opens the portal's websocket with the user's cookie."""
    headers = signed_in(services, ana)
    if origin is not None:
        headers["Origin"] = origin.format(port=services.settings.port)
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("/_stcore/stream", ["streamlit"], headers=headers),
    ):
        pass


@pytest.mark.parametrize(
    ("origin", "host", "own"),
    [
        ("https://papita.example", "10.0.0.7:3000", True),
        ("https://papita.example", "papita.example", True),
        ("http://papita.example", "papita.example", False),
        ("https://papita.example:8443", "papita.example", False),
        ("https://evil.example", "papita.example", False),
    ],
)
def test_behind_a_public_address_its_origin_alone_opens_websockets(
    services: Services, monkeypatch: pytest.MonkeyPatch, origin: str, host: str, own: bool
) -> None:
    settings = services.settings.model_copy(update={"public_url": "https://papita.example"})
    reached: list[str] = []

    class Pages:
        """Stands where Streamlit's own app is, and says what got there."""

        def __init__(self, *_: object, **__: object) -> None:
            """As `st.App` takes them."""

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            reached.append(scope["path"])
            await send({"type": "websocket.close"})

    monkeypatch.setattr("portal.server.st.App", Pages)
    public = Services(
        settings, services.papita, services.alchat, services.launcher, services.housekeeper
    )
    client = TestClient(create_app(public))
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("/_stcore/stream", headers={"Origin": origin, "Host": host}),
    ):
        pass
    assert reached == (["/_stcore/stream"] if own else [])


def test_clickjacking_is_refused_on_every_page_and_route(
    client: TestClient, services: Services
) -> None:
    """Attack: another site shows the portal in a frame, and lets people click in it."""
    paths = {(method, path) for method, path in every_route(services)}
    paths |= {("GET", f"/{entry.path}") for entry in PAGES}
    paths |= {("GET", path) for path in ("/_stcore/health", "/nowhere", "/api/nowhere")}
    framed = []
    for method, path in sorted(paths):
        answer = client.request(method, path)
        policy = answer.headers.get("content-security-policy", "")
        if (
            "frame-ancestors 'none'" not in policy
            or answer.headers.get("x-frame-options") != "DENY"
        ):
            framed.append((method, path, answer.status_code))
        assert answer.headers.get("x-content-type-options") == "nosniff", path
        assert "referrer-policy" in answer.headers, path
        assert "strict-transport-security" not in answer.headers, path
    assert framed == []


def redeemed(client: TestClient, services: Services, user: User, **headers: str) -> str:
    """The cookie that a browser gets for a fresh session."""
    ticket = services.papita.sessions.start(user.id).ticket
    own = {"X-Papita-Portal": "1", "Origin": services.settings.origin, **headers}
    answer = client.post("/auth/session", json={"ticket": ticket}, headers=own)
    assert answer.status_code == 204
    value = str(answer.cookies["papita_session"])
    client.cookies.clear()
    return value


def opens(client: TestClient, cookie: str) -> bool:
    answer = client.get("/api/credentials", headers={"Cookie": f"papita_session={cookie}"})
    assert answer.status_code in (200, 401)
    return answer.status_code == 200


def test_session_fixation(client: TestClient, services: Services, ana: User) -> None:
    """Attack: a handle that the attacker knows is in the browser before its user signs in."""
    planted = "a-handle-that-the-attacker-knows"
    got = redeemed(client, services, ana, Cookie=f"papita_session={planted}")
    assert got != planted
    assert opens(client, got)
    assert not opens(client, planted)
    # Nor does the handle of an earlier session become that of the next one.
    assert redeemed(client, services, ana, Cookie=f"papita_session={got}") != got


def sign_out(services: Services, user: User) -> None:
    for session in services.papita.sessions.of_user(user.id):
        services.papita.sessions.end(session.id)


def change_password(services: Services, user: User) -> None:
    services.papita.users.reset_password(Actor.operator(), user.username, "quite another harvest 7")


def disable(services: Services, user: User) -> None:
    # The last administrator cannot be disabled.
    services.papita.users.create(Actor.operator(), NewUser("zoe", PASSWORD, role="administrator"))
    services.papita.users.set_disabled(Actor.operator(), user.username, True)


@pytest.mark.parametrize("way", [sign_out, change_password, disable])
def test_cookie_replay_after(client: TestClient, services: Services, ana: User, way) -> None:  # type: ignore[no-untyped-def]
    """Attack: somebody has copied the cookie, and uses it after its user has done this."""
    cookie = redeemed(client, services, ana)
    assert opens(client, cookie)
    way(services, ana)
    assert not opens(client, cookie)
    # A ticket of the same session, never used, is worth nothing either.
    answer = client.get("/files/x", headers={"Cookie": f"papita_session={cookie}"})
    assert answer.status_code == 401


# --- whose word counts on the address ---


def address_of(trusted: tuple[str, ...], peer: str, *forwarded: str) -> tuple[str, str]:
    """Address and scheme that the app sees."""
    seen: list[tuple[str, str]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope["client"][0], scope["scheme"]))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    front: ASGIApp = behind_proxies(app, trusted)
    headers = [("X-Forwarded-For", value) for value in forwarded]
    client = TestClient(front, "http://papita.example", client=(peer, 1234))
    client.get("/", headers=[*headers, ("X-Forwarded-Proto", "https")])
    return seen[0]


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "seen"),
    [
        ((), "192.0.2.9", ("1.2.3.4",), ("192.0.2.9", "http")),
        ((), "127.0.0.1", ("1.2.3.4",), ("127.0.0.1", "http")),
        (("10.0.0.0/8",), "192.0.2.9", ("1.2.3.4",), ("192.0.2.9", "http")),
        (("10.0.0.0/8",), "10.0.0.1", ("192.0.2.9",), ("192.0.2.9", "https")),
        # What the browser itself sent stands before what the proxy added.
        (("10.0.0.0/8",), "10.0.0.1", ("1.2.3.4, 192.0.2.9",), ("192.0.2.9", "https")),
        (("10.0.0.0/8",), "10.0.0.1", ("1.2.3.4", "192.0.2.9"), ("192.0.2.9", "https")),
        (("10.0.0.0/8",), "10.0.0.1", ("192.0.2.9, 10.0.0.2",), ("192.0.2.9", "https")),
        (("10.0.0.0/8",), "10.0.0.1", (), ("10.0.0.1", "https")),
        (("10.0.0.0/8",), "::ffff:10.0.0.1", ("192.0.2.9",), ("192.0.2.9", "https")),
        (("fd00::/8",), "fd00::1", ("2001:db8::1",), ("2001:db8::1", "https")),
    ],
)
def test_an_address_that_is_made_up(
    trusted: tuple[str, ...], peer: str, forwarded: tuple[str, ...], seen: tuple[str, str]
) -> None:
    """Attack: another address in each request, so that no limit is ever reached."""
    assert address_of(trusted, peer, *forwarded) == seen
