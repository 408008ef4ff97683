"""Consent, revocation, rotation and the kill switches, on the running system and in two tabs.

Each test goes on where the one before it ended: one system, one administrator, one key.
"""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Page, expect

from papita_core.actors import Actor
from papita_core.app import build
from papita_core.vault.service import NewCredential
from portal.settings import PortalSettings
from tests.browser.people import (
    SECONDS,
    add_key,
    answers,
    ask,
    choose_model,
    cookie_is_set,
    expect_dashboard,
    expect_door,
    open_al_chat,
    open_context,
    set_up,
    sign_in,
)
from tests.system import PASSWORD, System

MANY = 1000
AT_ONCE = 200


@pytest.fixture(scope="module")
def page(context: BrowserContext, system: System) -> Page:
    page = context.new_page()
    set_up(page, system)
    cookie_is_set(page)
    add_key(page, system)
    return page


@pytest.fixture(scope="module")
def other(context: BrowserContext, page: Page) -> Page:
    """A second tab of the same user."""
    return context.new_page()


def card(page: Page):  # type: ignore[no-untyped-def]
    return page.locator(".st-key-connected_apps_al-chat")


def new_chat(page: Page) -> None:
    page.get_by_role("button", name="New chat").click()
    expect(answers(page)).to_have_count(0)


def begin_long_answer(page: Page) -> str:
    """Asks for one that goes on for minutes; what is there of it so far."""
    new_chat(page)
    choose_model(page, "stream-20000-20")
    ask(page, "Go on and on.")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    expect(answers(page).nth(1)).not_to_contain_text("Thinking")
    return " ".join(answers(page).nth(1).inner_text().split()[:5])


def expect_answer(page: Page) -> None:
    expect(answers(page).nth(1)).to_contain_text("What I noticed in your message")
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)


def test_consent_is_asked_once_and_not_again(page: Page, other: Page, system: System) -> None:
    open_al_chat(page, system, consent=True)
    open_al_chat(page, system, consent=False)
    other.goto(f"{system.url}/connected-apps")
    expect(card(other).get_by_role("button", name="Revoke")).to_be_visible()
    expect(card(other)).to_contain_text("uses My key")
    expect(card(other)).to_contain_text("yours for all projects")


def test_every_read_is_listed(page: Page, other: Page, system: System) -> None:
    choose_model(page, "demo-fast")
    ask(page, "What is a potato?")
    expect_answer(page)
    other.goto(f"{system.url}/connected-apps")
    expect(card(other)).to_contain_text(re.compile(r"Read a key \d+ times? today, last just now"))
    card(other).get_by_text("Every read").click()
    expect(card(other).get_by_role("listitem").first).to_contain_text(
        re.compile(r"\d · My key · Lent · run \w+")
    )


def test_revoking_stops_an_answer_that_is_being_written(
    page: Page, other: Page, system: System
) -> None:
    other.goto(f"{system.url}/connected-apps")
    expect(card(other).get_by_role("button", name="Revoke")).to_be_visible()
    seen = begin_long_answer(page)
    card(other).get_by_role("button", name="Revoke").click()
    expect(card(other)).to_contain_text("Not allowed")
    expect(page.get_by_role("button", name="Allow again")).to_be_visible(timeout=10 * SECONDS)
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    expect(answers(page).nth(1)).to_contain_text("taken back AL-Chat's permission")
    expect(answers(page).nth(1)).to_contain_text(seen)

    choose_model(page, "demo-fast")
    page.get_by_role("button", name="Allow again").click()
    page.get_by_role("dialog").get_by_role("button", name="Allow").click()
    expect_answer(page)
    other.reload()
    expect(card(other).get_by_role("button", name="Revoke")).to_be_visible()


def test_a_project_that_is_switched_off(page: Page, other: Page, system: System) -> None:
    other.goto(f"{system.url}/projects")
    expect(other.get_by_text("1 user allows it to use a key")).to_be_visible()
    seen = begin_long_answer(page)
    other.get_by_role("button", name="Switch off").click()
    other.get_by_role("dialog").get_by_role("button", name="Switch off").click()
    expect(other.get_by_role("button", name="Switch on")).to_be_visible()
    expect(page.get_by_role("button", name="Stop")).to_have_count(0, timeout=10 * SECONDS)
    expect(page.get_by_text("switched").first).to_be_visible()
    page.goto(system.url)
    chat = page.locator(".st-key-dashboard_al-chat")
    expect(chat).to_contain_text("An administrator has switched this project off")
    expect(chat.get_by_role("button", name="Open AL-Chat")).to_be_disabled()

    other.get_by_role("button", name="Switch on").click()
    expect(other.get_by_role("button", name="Switch off")).to_be_visible()
    open_al_chat(page, system, consent=False)  # the consent has stayed
    page.get_by_role("button", name="Go on and on.").first.click()
    expect(answers(page).nth(1)).to_contain_text(seen)


def test_a_credential_that_is_blocked(page: Page, other: Page, system: System) -> None:
    other.goto(f"{system.url}/vault")
    other.get_by_role("button", name="Block").click()
    other.get_by_role("dialog").get_by_role("button", name="Block").click()
    expect(other.get_by_role("button", name="Unblock")).to_be_visible()
    new_chat(page)
    choose_model(page, "demo-fast")
    ask(page, "Is my key there?")
    expect(answers(page).nth(1)).to_contain_text("blocked")
    expect(page.get_by_role("button", name="Open credentials")).to_be_visible()
    other.get_by_role("button", name="Unblock").click()
    expect(other.get_by_role("button", name="Block", exact=True)).to_be_visible()
    page.get_by_role("button", name="Try again").click()
    expect_answer(page)


def test_rotation_shows_its_progress_in_every_tab(page: Page, other: Page, system: System) -> None:
    """With many credentials and a slow writer beside it, so that there is something to see."""
    system.add_user("carla", admin=True)
    store_many(system, "carla")
    page.goto(f"{system.url}/vault")
    other.goto(f"{system.url}/vault")
    expect(other.get_by_role("button", name="Rotate root key")).to_be_visible()
    moving = re.compile(r"[\d,]+ of 1,0\d\d moved")
    with slow_writer(system):
        page.get_by_role("button", name="Rotate root key").click()
        for tab in (page, other):
            expect(tab.get_by_text(moving)).to_be_visible()
        page.goto(f"{system.url}/profile")  # leaving the page does not end it
    page.goto(f"{system.url}/vault")
    for tab in (page, other):
        expect(tab.get_by_role("button", name="Rotate root key")).to_be_visible(
            timeout=40 * SECONDS
        )
    page.get_by_text("All keys of the ring").click()
    states = page.get_by_role("listitem").filter(has_text="Root key")
    expect(states).to_contain_text(["active", "retired"])

    open_al_chat(page, system, consent=False)
    choose_model(page, "demo-fast")
    ask(page, "And after the rotation?")
    expect_answer(page)


def test_an_access_token_made_on_the_page(page: Page, system: System) -> None:
    page.goto(f"{system.url}/access-tokens")
    page.get_by_role("button", name="Create token").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("nightly script")
    dialog.get_by_text("See your credentials", exact=True).click()
    dialog.get_by_role("button", name="Create").click()
    shown = dialog.get_by_text(re.compile(r"papita_pat_[\w-]+")).first
    expect(shown).to_be_visible()
    token = shown.inner_text().strip()

    def status() -> int:
        return requests.get(
            f"{system.url}/api/credentials",
            headers={"Authorization": f"Bearer {token}"},
            timeout=10,
        ).status_code

    assert status() == 200
    dialog.get_by_role("button", name="Done").click()
    expect(dialog).to_have_count(0)
    assert token not in page.content()
    expect(page.get_by_text("nightly script")).to_be_visible()
    page.reload()
    expect(page.get_by_text("nightly script")).to_be_visible()
    assert token not in page.content()

    page.get_by_role("button", name="Revoke").click()
    dialog.get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("nightly script")).to_have_count(0)
    assert status() == 401


def ask_to_disable(page: Page, name: str) -> None:
    """Finds one user on the Users page and picks Disable from the menu."""
    page.get_by_label("Find").fill(name)
    menu = page.get_by_role("main").get_by_role("button", name="Actions")
    expect(menu).to_have_count(1)
    menu.click()
    page.get_by_role("menuitem", name="Disable").click()


def test_a_user_who_is_disabled_is_out_within_seconds(
    page: Page, browser: Browser, system: System
) -> None:
    system.add_user("bruno")
    theirs = open_context(browser)
    tab = theirs.new_page()
    tab.goto(system.url)
    sign_in(tab, "bruno", PASSWORD)
    expect_dashboard(tab)
    page.goto(f"{system.url}/users")
    ask_to_disable(page, "bruno")
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Disable").click()
    expect(dialog).to_have_count(0)
    expect_door(tab)
    sign_in(tab, "bruno", PASSWORD)
    expect(tab.get_by_text("The user name or the password is not right.")).to_be_visible()
    theirs.close()


def test_the_last_administrator_stays(page: Page, system: System) -> None:
    with system.papita() as papita:
        papita.users.set_disabled(Actor.operator(), "carla", True)
    ask_to_disable(page, "ana")
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Disable").click()
    expect(dialog).to_contain_text("This is the last administrator. Make another one first.")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("button", name="Log out")).to_be_visible()


def store_many(system: System, username: str) -> None:
    """Keys of another user, straight into the database that the portal works with."""
    settings = {
        name: value for name, value in system.env.items() if name.startswith(("PAPITA_", "ALCHAT_"))
    }
    papita = build(PortalSettings.load(settings))
    try:
        user = papita.users.by_username(username)
        assert user is not None
        actor = Actor(user.id, user.username, user.role)
        for _ in range(MANY // AT_ONCE):
            papita.credentials.create_many(
                actor,
                [
                    NewCredential("openai", {"api_key": f"sk-demo-many-{number:030}"})
                    for number in range(AT_ONCE)
                ],
            )
    finally:
        papita.close()


@contextmanager
def slow_writer(system: System) -> Iterator[None]:
    """Takes the database's write lock for a while, again and again."""
    done = threading.Event()

    def write() -> None:
        path = system.folder / "data" / "papita.db"
        with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as database:
            while not done.wait(0.1):
                database.execute("BEGIN IMMEDIATE")
                time.sleep(0.5)
                database.execute("ROLLBACK")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        done.set()
        writer.join()
