"""`/auth/oidc/…` over the real services and a provider that does what the test wants."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from papita_core.users.service import User
from portal import wiring
from portal.cookie_routes import session_routes
from portal.headers import SecurityHeaders
from portal.identity_providers import MESSAGES
from portal.oidc_routes import FROM_ADDRESS, NO_LOGOUT, oidc_routes, page_of
from portal.settings import PortalSettings
from portal.wiring import Services
from tests.identity_providers import HostileProvider, query_of
from tests.portal.conftest import settings_for

OWN = {"X-Papita-Portal": "1"}


@pytest.fixture(scope="module")
def running() -> Iterator[HostileProvider]:
    with HostileProvider() as provider:
        yield provider


@pytest.fixture
def provider(running: HostileProvider) -> HostileProvider:
    running.forget()
    return running


@pytest.fixture
def settings(tmp_path: Path, provider: HostileProvider) -> PortalSettings:
    file = tmp_path / "oidc.toml"
    file.write_text(provider.table(sign_up=True), "utf-8")
    return settings_for(tmp_path).model_copy(update={"oidc_file": file})


def client_for(services: Services, settings: PortalSettings) -> TestClient:
    app = Starlette(
        routes=[
            *session_routes(services.papita, settings),
            *oidc_routes(services.papita, settings),
        ],
        middleware=[Middleware(SecurityHeaders, "", secure=settings.secure)],
    )
    headers = {"Origin": settings.origin}
    return TestClient(app, settings.origin, headers=headers, follow_redirects=False)


@pytest.fixture
def client(services: Services, settings: PortalSettings) -> Iterator[TestClient]:
    with client_for(services, settings) as made:
        yield made


def begin(client: TestClient, **query: str) -> str:
    answer = client.get("/auth/oidc/login", params={"provider": "corp", **query})
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def back(client: TestClient, provider: HostileProvider, url: str, **claims: Any) -> Any:
    return client.get("/auth/oidc/callback", params=provider.answer(url, **claims))


def signed_in(client: TestClient, services: Services, user: User) -> None:
    started = services.papita.sessions.start(user.id)
    handle, _ = services.papita.sessions.redeem(started.ticket)
    client.cookies.set("papita_session", handle)


def begin_here(client: TestClient, purpose: str, headers: dict[str, str] = OWN) -> Any:
    asked = {"provider": "corp", "purpose": purpose, "next": "/profile"}
    return client.post("/auth/oidc/begin", json=asked, headers=headers)


def test_a_round_trip_ends_on_the_page_that_was_asked_for_with_a_session(
    client: TestClient, services: Services, provider: HostileProvider, ana: User
) -> None:
    url = begin(client, next="/al-chat?conversation=5", remember="1")
    assert url.startswith(f"{provider.issuer}/authorize?")
    answer = back(client, provider, url, sid="there")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/al-chat?conversation=5"
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
    assert "Max-Age" in cookie
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-content-type-options"] == "nosniff"
    session = services.papita.sessions.by_handle(client.cookies["papita_session"])
    assert session is not None
    assert (session.username, session.method, session.remember) == ("one", "oidc", True)


def test_who_does_not_want_to_be_remembered_gets_a_cookie_that_ends_with_the_browser(
    client: TestClient, services: Services, provider: HostileProvider, ana: User
) -> None:
    answer = back(client, provider, begin(client))
    assert "Max-Age" not in answer.headers["set-cookie"]
    session = services.papita.sessions.by_handle(client.cookies["papita_session"])
    assert session is not None
    assert session.remember is False


def test_session_fixation_the_session_of_before_is_over(
    client: TestClient, services: Services, provider: HostileProvider, ana: User
) -> None:
    signed_in(client, services, ana)
    before = client.cookies["papita_session"]
    answer = back(client, provider, begin(client))
    assert answer.headers["location"] == "/"
    assert services.papita.sessions.by_handle(before) is None
    client.cookies.delete("papita_session")


def test_the_cookie_of_an_attempt_is_bound_to_the_host_under_https(
    services: Services, settings: PortalSettings, ana: User
) -> None:
    secure = settings.model_copy(update={"public_url": "https://papita.example"})
    with client_for(services, secure) as client:
        cookie = client.get("/auth/oidc/login?provider=corp").headers["set-cookie"]
    assert cookie.startswith("__Host-papita_oidc=")
    assert {"HttpOnly", "Secure", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))


@pytest.mark.parametrize(
    "wanted",
    [
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example",
        "https:evil.example",
        "http:///evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "/%2F/evil.example",
        "/%2fevil.example",
        "/%5Cevil.example",
        "%2F%2Fevil.example",
        "/.evil.example",
        "/../evil",
        "/@evil.example",
        "/profile@evil.example",
        "//profile",
        "/profile/../../evil",
        "/\t/evil.example",
        "/\n/evil.example",
        "/\x00",
        " //evil.example",
        "/ /evil.example",
        "/auth/oidc/login",
        "/api/credentials",
        "/files/x",
        "profile",
        "?x=1",
        "http://[",
        "/profile\u2028",
        "/profile" + "x" * 400,
        "/?" + "x" * 400,
    ],
)
def test_open_redirect_after_openid_connect(
    client: TestClient, provider: HostileProvider, ana: User, wanted: str
) -> None:
    assert page_of(wanted) == "/"
    answer = back(client, provider, begin(client, next=wanted))
    assert answer.headers["location"] == "/"


@pytest.mark.parametrize(
    ("wanted", "made"),
    [
        ("/", "/"),
        ("/profile", "/profile"),
        ("/profile#x", "/profile"),
        ("/al-chat?conversation=1&a=b", "/al-chat?conversation=1&a=b"),
        ("/al-chat?next=https://evil.example", "/al-chat?next=https%3A%2F%2Fevil.example"),
        ("/al-chat?a=%0d%0aSet-Cookie:x", "/al-chat?a=%0D%0ASet-Cookie%3Ax"),
        ("/profile?oidc=linked", "/profile"),
    ],
)
def test_pages_of_ours_keep_their_query(wanted: str, made: str) -> None:
    assert page_of(wanted) == made


def test_errors_lead_to_the_page_with_a_code_and_nothing_of_what_was_sent(
    client: TestClient, services: Services, provider: HostileProvider, ana: User
) -> None:
    url = begin(client, next="/al-chat")
    answer = client.get(
        "/auth/oidc/callback",
        params={
            "state": query_of(url)["state"],
            "error": "access_denied",
            "error_description": "<script>alert(1)</script>",
            "error_uri": "https://evil.example",
        },
    )
    assert answer.headers["location"] == "/al-chat?oidc=declined"
    answer = client.get("/auth/oidc/callback?state=x&code=y&error_description=evil")
    assert answer.headers["location"] == "/?oidc=stale"
    assert "evil" not in answer.text
    assert client.get("/auth/oidc/callback").headers["location"] == "/?oidc=stale"
    answer = client.get("/auth/oidc/login?provider=<b>&next=/profile")
    assert answer.headers["location"] == "/profile?oidc=unknown-provider"
    assert {"declined", "stale", "unknown-provider"} <= set(MESSAGES)
    assert "papita_session" not in client.cookies


def test_an_answer_to_somebody_elses_browser_signs_nobody_in(
    client: TestClient,
    services: Services,
    settings: PortalSettings,
    provider: HostileProvider,
    ana: User,
) -> None:
    params = provider.answer(begin(client))
    with client_for(services, settings) as victim:
        begin(victim)
        answer = victim.get("/auth/oidc/callback", params=params)
        assert answer.headers["location"] == "/?oidc=stale"
        assert "papita_session" not in victim.cookies
    assert client.get("/auth/oidc/callback", params=params).headers["location"] == "/"


def test_two_tabs_of_one_browser_may_be_on_their_way_at_once(
    client: TestClient, provider: HostileProvider, ana: User
) -> None:
    first, second = begin(client, next="/profile"), begin(client, next="/al-chat")
    assert back(client, provider, first).headers["location"] == "/profile"
    assert back(client, provider, second).headers["location"] == "/al-chat"


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT"])
def test_only_a_get_uses_an_answer_up(
    client: TestClient, provider: HostileProvider, ana: User, method: str
) -> None:
    params = provider.answer(begin(client))
    assert client.request(method, "/auth/oidc/callback", params=params).status_code >= 400
    assert client.get("/auth/oidc/callback", params=params).headers["location"] == "/"


def test_too_many_from_one_address(client: TestClient, ana: User) -> None:
    for _ in range(FROM_ADDRESS.most):
        begin(client)
    answer = client.get("/auth/oidc/login?provider=corp&next=/profile")
    assert answer.headers["location"] == "/profile?oidc=too-many"


# --- linking and proving ---


def test_linking_and_its_end(
    client: TestClient, services: Services, provider: HostileProvider, ana: User
) -> None:
    signed_in(client, services, ana)
    url = begin_here(client, "link").json()["location"]
    answer = back(client, provider, url)
    assert answer.headers["location"] == "/profile?oidc=linked"
    assert "papita_session" not in answer.headers.get("set-cookie", "")
    client.cookies.clear()
    assert back(client, provider, begin(client)).headers["location"] == "/"
    session = services.papita.sessions.by_handle(client.cookies["papita_session"])
    assert session is not None
    assert session.username == "ana"


def test_proving_renews_the_handle(
    client: TestClient, services: Services, provider: HostileProvider, ana: User
) -> None:
    signed_in(client, services, ana)
    back(client, provider, begin_here(client, "link").json()["location"])
    before = client.cookies["papita_session"]
    url = begin_here(client, "proof").json()["location"]
    asked = query_of(url)
    assert (asked["prompt"], asked["max_age"]) == ("login", "0")
    answer = back(client, provider, url, auth_time=32_503_680_000)
    assert answer.headers["location"] == "/profile?oidc=proved"
    assert "papita_session=" in answer.headers["set-cookie"]
    fresh = answer.cookies["papita_session"]
    assert fresh != before
    assert services.papita.sessions.by_handle(before) is None
    session = services.papita.sessions.by_handle(fresh)
    assert session is not None
    assert session.username == "ana"


@pytest.mark.parametrize(
    "headers",
    [{}, {**OWN, "Origin": "https://evil.example"}, {**OWN, "Sec-Fetch-Site": "cross-site"}],
    ids=["without our header", "foreign", "cross-site"],
)
@pytest.mark.parametrize("purpose", ["link", "proof"])
def test_csrf_nobody_elses_page_begins_a_link_or_a_proof(
    client: TestClient, services: Services, ana: User, headers: dict[str, str], purpose: str
) -> None:
    signed_in(client, services, ana)
    answer = begin_here(client, purpose, headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "cross-site")


@pytest.mark.parametrize("purpose", ["link", "proof"])
def test_a_stranger_links_and_proves_nothing(client: TestClient, ana: User, purpose: str) -> None:
    assert begin_here(client, purpose).status_code == 401


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"purpose": "sign-in"}', b"[" * 4000, b"x" * 5000]
)
def test_bodies_that_are_none(
    client: TestClient, services: Services, ana: User, body: bytes
) -> None:
    signed_in(client, services, ana)
    answer = client.post("/auth/oidc/begin", content=body, headers=OWN)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-input")


# --- logging out ---


def logout(client: TestClient, token: str) -> Any:
    answer = client.post("/auth/oidc/backchannel-logout", data={"logout_token": token})
    assert answer.headers["cache-control"] == "no-store"
    return answer


def test_the_provider_logs_somebody_out(
    client: TestClient, services: Services, provider: HostileProvider, ana: User
) -> None:
    back(client, provider, begin(client), sid="s1")
    handle = client.cookies["papita_session"]
    assert logout(client, provider.logout_token(sid="s2")).status_code == 200
    assert services.papita.sessions.by_handle(handle) is not None
    token = provider.logout_token(sid="s1")
    assert logout(client, token).status_code == 200
    assert services.papita.sessions.by_handle(handle) is None
    again = logout(client, token)
    assert (again.status_code, again.json()) == (400, {"error": "invalid_request"})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"logout_token=",
        b"logout_token=a.b.c",
        b"logout_token=a&logout_token=b",
        b"\xff",
        b"logout_token=" + b"x" * 70_000,
    ],
    ids=["nothing", "empty", "no token", "two", "no ASCII", "too long"],
)
def test_what_is_no_logout(client: TestClient, body: bytes) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = client.post("/auth/oidc/backchannel-logout", content=body, headers=headers)
    assert (answer.status_code, answer.json()) == (400, {"error": "invalid_request"})


def test_too_many_that_are_no_logout(client: TestClient) -> None:
    path = "/auth/oidc/backchannel-logout"
    for _ in range(NO_LOGOUT.most):
        assert client.post(path, data={"logout_token": "x"}).status_code == 400
    answer = client.post(path, data={"logout_token": "x"})
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0


def test_without_a_provider_there_are_no_such_routes(tmp_path: Path) -> None:
    services = wiring.make_services(settings_for(tmp_path))
    try:
        assert oidc_routes(services.papita, services.settings) == []
    finally:
        services.close()
