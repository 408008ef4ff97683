"""Signing in on the running system: where it leads, how long it lasts, and how fast it ends."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from alchat_core.client import AlChatClient
from demo.provider.scripts import script_for
from papita_core.actors import Actor
from papita_core.users.models import SessionRow
from papita_core.users.service import NewUser
from tests.browser.people import (
    SECONDS,
    answers,
    arrive,
    ask,
    choose_model,
    cookie_is_set,
    open_context,
    session_cookie,
    sign_in,
)
from tests.system import PASSWORD, System


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    system = System(
        Path(tmp_path_factory.mktemp("sign-in")),
        alchat=True,
        settings={"PAPITA_TRUSTED_PROXIES": "127.0.0.1,::1"},
    )
    system.add_user("ana", admin=True)
    with system:
        yield system


@pytest.fixture
def visitor(browser: Browser) -> Iterator[BrowserContext]:
    context = open_context(browser)
    yield context
    context.close()


def signed_in(page: Page) -> None:
    expect(page.get_by_role("button", name="Log out")).to_be_visible()


def test_the_page_that_was_asked_for_opens_with_its_query(
    house: System, visitor: BrowserContext
) -> None:
    page = visitor.new_page()
    page.goto(f"{house.url}/audit?outcome=Done")
    sign_in(page)
    signed_in(page)
    expect(page.get_by_role("heading", name="Audit log")).to_be_visible()
    assert page.url == f"{house.url}/audit?outcome=Done"


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example/",
        "/\\evil.example",
        "/?next=https://evil.example/",
        "/?redirect=//evil.example",
        "/%2F%2Fevil.example",
    ],
)
def test_an_open_redirect_after_sign_in(house: System, visitor: BrowserContext, path: str) -> None:
    """Attack: a link to the portal that leads elsewhere once the user has signed in."""
    elsewhere: list[str] = []
    page = visitor.new_page()
    page.on("request", lambda request: elsewhere.append(request.url))
    answer = visitor.request.get(house.url + path, max_redirects=0)
    assert not answer.headers.get("location", "").startswith(("//", "http:", "https:", "/\\"))
    page.goto(house.url + path)
    if answer.ok:
        sign_in(page)
        signed_in(page)
    assert [url for url in elsewhere if not url.startswith((house.url, "blob:", "data:"))] == []
    assert page.url.startswith(house.url)


@pytest.mark.parametrize("keep", [True, False])
def test_keep_me_signed_in_makes_a_cookie_that_outlives_the_browser(
    house: System, visitor: BrowserContext, keep: bool
) -> None:
    page = visitor.new_page()
    page.goto(house.url)
    if keep:
        page.get_by_text("Keep me signed in").click()
    sign_in(page)
    signed_in(page)
    cookie_is_set(page)
    cookie = session_cookie(visitor)
    assert cookie is not None
    left = float(str(cookie["expires"])) - time.time()
    # -1: until the browser is closed.
    assert (left > 13 * 86400) if keep else (cookie["expires"] == -1)
    page.reload()
    signed_in(page)


def test_it_works_by_keyboard_alone(house: System, visitor: BrowserContext) -> None:
    page = visitor.new_page()
    page.goto(house.url)
    page.get_by_label("Username").focus()
    page.keyboard.type("ana")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    signed_in(page)


def test_proving_oneself_changes_the_handle_and_keeps_other_tabs(
    house: System, visitor: BrowserContext
) -> None:
    page, other = visitor.new_page(), visitor.new_page()
    page.goto(house.url)
    sign_in(page)
    signed_in(page)
    cookie_is_set(page)
    before = session_cookie(visitor)
    other.goto(house.url)
    signed_in(other)
    with house.papita() as papita, papita.database.write() as session:
        for row in session.query(SessionRow).all():
            row.proved_at = None
    page.bring_to_front()
    page.goto(f"{house.url}/access-tokens")
    page.get_by_role("button", name="Create token").click()
    dialog = page.get_by_role("dialog", name="Confirm that it is you")
    dialog.get_by_label("Password", exact=True).fill(PASSWORD)
    dialog.get_by_role("button", name="Confirm").click()
    expect(page.get_by_role("dialog", name="Create access token")).to_be_visible()
    end = time.monotonic() + 10
    while session_cookie(visitor) == before and time.monotonic() < end:
        page.wait_for_timeout(50)
    assert before is not None
    after = session_cookie(visitor)
    assert after is not None
    assert after["value"] != before["value"]
    with house.papita() as papita:
        assert papita.sessions.by_handle(str(before["value"])) is None
        assert papita.sessions.by_handle(str(after["value"])) is not None
    for tab in (other, page):
        tab.bring_to_front()
        tab.reload()
        signed_in(tab)


def test_who_is_disabled_in_the_middle_of_an_answer_is_shown_the_door_and_the_answer_ends(
    house: System, visitor: BrowserContext
) -> None:
    """Both within ten seconds, whatever the tab does; what was written stays."""
    page = arrive(visitor, house, "ben")
    choose_model(page, "stream-3000-20")
    ask(page, "A long one.")
    expect(answers(page).nth(1)).to_contain_text("quick brown potato")
    token = house.user_token("ben")
    user = AlChatClient(house.alchat_url).as_user(lambda: token)
    (conversation,) = user.conversations().items
    written = user.messages(conversation.id).items[-1].run
    assert written is not None
    with house.papita() as papita:
        papita.users.set_disabled(Actor.operator(), "ben", True)
    disabled_at = datetime.now(UTC)
    expect(page.get_by_role("button", name="Log in")).to_be_visible(timeout=10 * SECONDS)
    expect(answers(page)).to_have_count(0)
    # Until it has ended: an account that is switched on again before Papita is asked loses nothing.
    deadline = time.monotonic() + 10
    while (run := user.run(written.id)).finished_at is None and time.monotonic() < deadline:
        time.sleep(0.1)
    with house.papita() as papita:
        papita.users.set_disabled(Actor.operator(), "ben", False)
    answer = user.messages(conversation.id).items[-1]
    assert run.state == "failed"
    assert run.error is not None
    assert run.error.code == "session-ended"
    assert run.finished_at is not None
    assert (run.finished_at - disabled_at).total_seconds() < 10
    assert answer.content.startswith(script_for("stream-3000-20").text[:40])


def test_the_address_is_the_one_that_a_trusted_proxy_says(house: System, browser: Browser) -> None:
    context = browser.new_context(extra_http_headers={"X-Forwarded-For": "1.2.3.4, 198.51.100.7"})
    context.set_default_timeout(20 * SECONDS)
    with house.papita() as papita:
        papita.users.create(Actor.operator(), NewUser("zoe", PASSWORD))
    page = context.new_page()
    page.goto(house.url)
    sign_in(page, "zoe")
    signed_in(page)
    with house.papita() as papita:
        user = papita.users.by_username("zoe")
        assert user is not None
        (session,) = papita.sessions.of_user(user.id)
    assert session.address == "198.51.100.7"
    context.close()


def test_a_foreign_page_cannot_open_the_websocket(house: System) -> None:
    statuses = []
    for origin in (house.url, "https://evil.example"):
        connection = http.client.HTTPConnection("localhost", house.port, timeout=10)
        connection.request(
            "GET",
            "/_stcore/stream",
            headers={
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Origin": origin,
                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Protocol": "streamlit",
            },
        )
        statuses.append(connection.getresponse().status)
        connection.close()
    assert statuses == [101, 403]
