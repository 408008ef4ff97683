"""Each thing that can be missing or broken gets a sentence and a next step, and nothing is lost.

What was typed is on the page after each failure, and once the cause is gone the button beside the
sentence brings the answer.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator

import pytest
import requests
from playwright.sync_api import Browser, Page, expect

from papita_core.actors import Actor
from tests.browser.people import (
    SECONDS,
    add_key,
    answers,
    ask,
    choose_model,
    composer,
    cookie_is_set,
    expect_door,
    open_al_chat,
    open_context,
    set_up,
    sign_in,
)
from tests.system import KEY, System


@pytest.fixture(scope="module")
def page(browser: Browser, system: System) -> Iterator[Page]:
    """A user who has opened AL-Chat, and has no key yet."""
    context = open_context(browser)
    page = context.new_page()
    set_up(page, system)
    cookie_is_set(page)
    open_al_chat(page, system, consent=True)
    yield page
    context.close()


@pytest.fixture(autouse=True)
def _back_to_normal(system: System) -> Iterator[None]:
    yield
    system.provider(down=False, rejectKeys=False)


def expect_answer(page: Page) -> None:
    expect(answers(page).nth(1)).to_contain_text("What I noticed in your message")
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)


def new_chat(page: Page) -> None:
    page.get_by_role("button", name="New chat").click()
    expect(answers(page)).to_have_count(0)


def test_without_a_key(page: Page, system: System) -> None:
    ask(page, "Where is my key?")
    expect(answers(page).nth(1)).to_contain_text("You have no key in Papita that AL-Chat can use")
    expect(answers(page).nth(0)).to_contain_text("Where is my key?")
    page.get_by_role("button", name="Add a key").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Label").fill("My key")
    dialog.get_by_label("API key", exact=True).fill(KEY)
    dialog.get_by_label("Base URL").fill(f"{system.provider_url}/v1")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)
    # The same question is asked again by itself.
    expect_answer(page)


def test_with_a_wrong_key(page: Page, system: System) -> None:
    new_chat(page)
    system.provider(rejectKeys=True)
    ask(page, "Does my key work?")
    expect(answers(page).nth(1)).to_contain_text("The provider rejected your API key")
    expect(answers(page).nth(0)).to_contain_text("Does my key work?")
    page.get_by_role("button", name="Replace the key").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("API key", exact=True).fill(KEY + "-2")
    system.provider(rejectKeys=False)
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)
    # The same question is asked again by itself.
    expect_answer(page)


def test_with_the_provider_down(page: Page, system: System) -> None:
    new_chat(page)
    system.stop("provider", signal.SIGKILL)
    ask(page, "Is anybody there?")
    expect(answers(page).nth(1)).to_contain_text("The provider could not be reached")
    expect(answers(page).nth(0)).to_contain_text("Is anybody there?")
    system.start_provider()
    page.get_by_role("button", name="Try again").click()
    expect_answer(page)


def test_when_the_provider_breaks_off(page: Page, system: System) -> None:
    new_chat(page)
    choose_model(page, "cut-30")
    ask(page, "Go on until you break.")
    expect(answers(page).nth(1)).to_contain_text("broke the connection off")
    expect(answers(page).nth(0)).to_contain_text("Go on until you break.")
    choose_model(page, "demo-fast")
    page.get_by_role("button", name="Try again").click()
    expect_answer(page)


def test_with_a_model_that_is_not_there(page: Page) -> None:
    new_chat(page)
    choose_model(page, "no-such-model")
    ask(page, "Which one are you?")
    expect(answers(page).nth(1)).to_contain_text("does not know this model")
    page.get_by_role("button", name="Choose another model").click()
    page.get_by_role("combobox", name="Another model").click()
    page.get_by_role("option", name="demo-fast", exact=True).click()
    expect_answer(page)
    choose_model(page, "demo-fast")


def test_with_al_chat_down(page: Page, system: System) -> None:
    new_chat(page)
    stop_al_chat(system)
    ask(page, "Are you asleep?")
    expect(page.get_by_text("AL-Chat does not answer").first).to_be_visible()
    expect(page.get_by_text("Are you asleep?").first).to_be_visible()
    page.get_by_role("button", name="Start AL-Chat").first.click()
    expect(answers(page).nth(1)).to_contain_text(
        "What I noticed in your message", timeout=40 * SECONDS
    )
    expect(answers(page).nth(0)).to_contain_text("Are you asleep?")


def test_with_al_chat_killed_in_mid_answer(page: Page, system: System) -> None:
    new_chat(page)
    choose_model(page, "stream-2000-20")
    ask(page, "A very long one.")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    expect(answers(page).nth(1)).not_to_contain_text("Thinking")
    seen = answers(page).nth(1).inner_text().split()[:5]
    stop_al_chat(system, signal.SIGKILL)
    expect(page.get_by_text("AL-Chat does not answer").first).to_be_visible(timeout=30 * SECONDS)
    page.get_by_role("button", name="Start AL-Chat").first.click()
    expect(answers(page).nth(1)).to_contain_text(
        "AL-Chat was stopped while it wrote this answer", timeout=40 * SECONDS
    )
    expect(answers(page).nth(1)).to_contain_text(" ".join(seen))
    choose_model(page, "demo-fast")
    page.get_by_role("button", name="Try again").click()
    expect_answer(page)


def test_with_the_use_of_the_key_taken_back(page: Page, system: System) -> None:
    conversation = page.url
    page.goto(f"{system.url}/connected-apps")
    page.get_by_role("button", name="Revoke").first.click()
    expect(page.get_by_text("Not allowed")).to_be_visible()
    page.goto(conversation)
    new_chat(page)
    ask(page, "May you?")
    expect(answers(page).nth(1)).to_contain_text("AL-Chat may not use your key")
    expect(answers(page).nth(0)).to_contain_text("May you?")
    page.get_by_role("button", name="Allow AL-Chat").click()
    page.get_by_role("dialog").get_by_role("button", name="Allow").click()
    expect_answer(page)


def test_with_papita_down(page: Page, system: System) -> None:
    """The portal is Papita: a draft in the page stays, and the page comes back by itself."""
    new_chat(page)
    composer(page).fill("A draft that must not be lost")
    system.stop("portal", signal.SIGKILL)
    page.wait_for_timeout(1500)
    expect(composer(page)).to_have_value("A draft that must not be lost")
    system.start_portal()
    expect(page.get_by_role("button", name="New chat")).to_be_visible()
    expect(composer(page)).to_have_value("A draft that must not be lost")
    # The page connects again by itself, and is drawn anew.
    app = page.get_by_test_id("stApp")
    expect(app).to_have_attribute("data-test-connection-state", "CONNECTED")
    page.wait_for_timeout(1000)
    expect(app).to_have_attribute("data-test-script-state", "notRunning")
    composer(page).press("Enter")
    expect(answers(page).nth(0)).to_contain_text("A draft that must not be lost")
    expect_answer(page)


def test_al_chat_alone_says_when_papita_is_down(system: System) -> None:
    """AL-Chat goes on without Papita, and says that it is not ready."""
    system.stop("portal", signal.SIGKILL)
    try:
        answer = requests.get(f"{system.alchat_url}/readyz", timeout=20)
        assert answer.status_code == 503
        assert requests.get(f"{system.alchat_url}/healthz", timeout=20).status_code == 200
    finally:
        system.start_portal()


def test_with_the_vault_sealed(page: Page, system: System) -> None:
    """With another master key the portal starts sealed, says so, and makes nothing new over it."""
    before = ring(system)
    system.stop("portal")
    system.env["PAPITA_MASTER_KEY"] = "ab" * 32
    system.start_portal()
    try:
        page.goto(f"{system.url}/al-chat")
        expect(page.get_by_role("button", name="Log out")).to_be_visible()
        expect(page.get_by_text("The vault is sealed").first).to_be_visible()
        assert ring(system) == before
    finally:
        system.stop("portal")
        del system.env["PAPITA_MASTER_KEY"]
        system.start_portal()
    page.goto(f"{system.url}/al-chat")
    expect(page.get_by_text("The vault is sealed")).to_have_count(0)


def test_a_session_that_ended_elsewhere(page: Page, system: System) -> None:
    page.goto(f"{system.url}/credentials")
    expect(page.get_by_role("button", name="Add credential")).to_be_visible()
    with system.papita() as papita:
        papita.users.reset_password(Actor.operator(), "ana", "another-horse-9")
    expect_door(page)
    sign_in(page, password="another-horse-9")
    expect(page.get_by_role("button", name="Add credential")).to_be_visible()
    add_key(page, system, label="A second key", key="sk-demo-another-one-01")


def stop_al_chat(system: System, number: int = signal.SIGTERM) -> None:
    """Stops the AL-Chat that the portal started, by the pid in its process file."""
    noted = json.loads((system.folder / "data" / "al-chat.pid").read_text())
    os.kill(noted["pid"], number)
    end = time.monotonic() + 15
    while time.monotonic() < end:
        try:
            requests.get(f"{system.alchat_url}/healthz", timeout=1)
        except requests.RequestException:
            return
        time.sleep(0.1)
    raise AssertionError("AL-Chat did not stop")


def ring(system: System) -> list[tuple[str, str]]:
    """The root keys, as they are in the database."""
    with sqlite3.connect(system.folder / "data" / "papita.db") as database:
        return list(database.execute("SELECT kid, state FROM root_keys ORDER BY kid"))
