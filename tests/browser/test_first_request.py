"""A stranger who opens any page first thing on a fresh process sees the sign-in form and no more.

Streamlit's own discovery of `pages/` would run a page before the entry script here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, WebSocketRoute, expect

from portal.front_page import LATER
from portal.navigation import PAGES
from tests.browser.people import expect_door, open_context, sign_in
from tests.system import System


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system with one user, whose portal each test starts anew."""
    system = System(Path(tmp_path_factory.mktemp("first-request")))
    system.add_user("ana", admin=True)
    yield system
    system.close()


# A page of each kind is the first one of a process; the others follow one of these.
FIRST = ("", "credentials", "al-chat", "users")
OTHERS = tuple(entry.path for entry in PAGES if entry.path not in FIRST)


@pytest.mark.parametrize("path", FIRST, ids=lambda path: path or "dashboard")
def test_door_first(house: System, browser: Browser, path: str) -> None:
    house.start_portal()
    try:
        with open_context(browser) as context, context.new_page() as page:
            # One page of each kind is the first of a process; the others follow the last of these.
            opened = [path, *(OTHERS if path == FIRST[-1] else ())]
            for each in opened:
                _door(house, page, each)
            # After sign-in the page that was asked for opens.
            sign_in(page)
            expect(page.get_by_role("button", name="Log out")).to_be_visible()
            assert page.url.rstrip("/") == f"{house.url}/{opened[-1]}".rstrip("/")
    finally:
        assert house.stop("portal") == 0


def _door(house: System, page: Page, path: str) -> None:
    page.goto(f"{house.url}/{path}")
    expect_door(page)
    page.wait_for_timeout(300)
    links = [link.inner_text() for link in page.get_by_role("link").all()]
    assert links == ["Skip to main content"]
    assert [heading.inner_text() for heading in page.get_by_role("heading").all()] == [
        "Log in to Papita"
    ]
    buttons = [
        button.get_attribute("aria-label") or button.inner_text()
        for button in page.get_by_role("button").all()
    ]
    assert set(buttons) <= {
        *("Log in", "Show password", "Fullscreen"),
        *("Sign in with a passkey", "Forgotten your password?", "Help for Keep me signed in"),
    }


def test_the_connection_is_opened_without_being_looked_for(house: System, browser: Browser) -> None:
    house.start_portal()
    try:
        with open_context(browser) as context, context.new_page() as page:
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            # Streamlit asks there, and above the page's address, before it opens the connection.
            page.route("**/_stcore/health", lambda _: None)
            page.goto(f"{house.url}/al-chat")
            expect_door(page)
            assert [url for url in asked if "_stcore/health" in url] == [
                f"{house.url}/_stcore/health"
            ]
    finally:
        assert house.stop("portal") == 0


_HAS = "part => performance.getEntriesByType('resource').some(one => one.name.includes(part))"


def _until(page: Page, there: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not there():
        assert time.monotonic() < end
        page.wait_for_timeout(100)
    # Fetched is not run yet.
    page.wait_for_timeout(1_000)


def test_no_element_is_a_grey_bar_at_first(house: System, browser: Browser) -> None:
    """An element whose script React has yet to be given is drawn after everything else."""
    house.start_portal()
    try:
        with open_context(browser) as context, context.new_page() as page:
            page.goto(f"{house.url}/al-chat")
            sign_in(page)
            expect(page.get_by_placeholder("Message AL-Chat")).to_be_visible()
            page.add_init_script(
                """window.bars = 0;
                new MutationObserver(() => {
                  window.bars += document.querySelectorAll('[data-testid="stSkeleton"]').length;
                }).observe(document, {childList: true, subtree: true});"""
            )
            held: list[tuple[WebSocketRoute, str | bytes]] = []
            ready = False

            # What the server says comes when the scripts are there, however busy this machine is.
            def hold(socket: WebSocketRoute) -> None:
                def say(message: str | bytes) -> None:
                    if ready:
                        socket.send(message)
                    else:
                        held.append((socket, message))

                socket.connect_to_server().on_message(say)

            page.route_web_socket("**/_stcore/stream", hold)
            page.reload()
            _until(page, lambda: len(held) > 40)
            ready = True
            for socket, message in held:
                socket.send(message)
            expect(page.get_by_placeholder("Message AL-Chat")).to_be_visible()
            expect(page.get_by_placeholder("Search chats")).to_be_visible()
            assert page.evaluate("window.bars") == 0
            # Nor on another page, once the browser has had a moment for that.
            _until(page, lambda: page.evaluate(_HAS, f"/{LATER[-1]}."))
            page.get_by_test_id("stSidebarNav").get_by_role("link", name="Credentials").click()
            expect(page.locator(".st-key-which_key")).to_be_visible()
            assert page.evaluate("window.bars") == 0
    finally:
        assert house.stop("portal") == 0


def test_an_address_that_is_not_there(house: System, browser: Browser) -> None:
    house.start_portal()
    context = open_context(browser)
    page = context.new_page()
    try:
        page.goto(f"{house.url}/no-such-page")
        expect_door(page)
    finally:
        context.close()
        assert house.stop("portal") == 0
