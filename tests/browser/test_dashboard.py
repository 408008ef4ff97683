"""The dashboard on the running system: first steps, live health, conversations, spending."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.people import (
    add_key,
    answers,
    ask,
    choose_model,
    cookie_is_set,
    expect_dashboard,
    open_al_chat,
    open_context,
    set_up,
)
from tests.system import System


@pytest.fixture(scope="module")
def priced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system where a model has a price."""
    folder: Path = tmp_path_factory.mktemp("priced")
    with System(folder, settings={"ALCHAT_PRICES": "demo-fast=1000/2000"}) as running:
        yield running


@pytest.fixture(scope="module")
def page(browser: Browser, priced: System) -> Iterator[Page]:
    context = open_context(browser)
    page = context.new_page()
    set_up(page, priced)
    cookie_is_set(page)
    yield page
    context.close()


def dashboard(page: Page, system: System) -> None:
    page.goto(system.url)
    expect_dashboard(page)


def test_the_first_steps_are_ticked_and_gone_once_done(page: Page, priced: System) -> None:
    steps = page.locator(".st-key-first_steps")
    expect(steps).to_contain_text("Store your OpenAI key")
    card = page.locator(".st-key-dashboard_al-chat")
    expect(card).to_contain_text("Needs attention")
    expect(card).to_contain_text("It has no key to use yet.")
    steps.get_by_role("link", name="Add a key").click()
    expect(page.get_by_role("button", name="Add credential")).to_be_visible()
    add_key(page, priced, label="Personal")
    page.get_by_role("button", name="Test").click()
    expect(page.get_by_text("accepts the key")).to_be_visible()
    open_al_chat(page, priced, consent=True)
    choose_model(page, "demo-fast")
    ask(page, "Which names does the potato have?")
    expect(answers(page).nth(1)).to_contain_text("What I noticed in your message")
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    dashboard(page, priced)
    expect(page.get_by_role("heading", name="Recent conversations")).to_be_visible()
    expect(steps).to_have_count(0)


def test_all_is_green_and_the_conversation_is_there(page: Page, priced: System) -> None:
    card = page.locator(".st-key-dashboard_al-chat")
    expect(card).to_contain_text("Ready")
    recent = page.locator(".st-key-dashboard_recent")
    link = recent.get_by_role("link", name="Which names does the potato have?")
    expect(link).to_be_visible()
    expect(page.locator(".st-key-dashboard_spending")).to_contain_text("$0.")
    expect(page.get_by_test_id("stEChartsChart").locator("svg")).to_be_visible()
    link.click()
    expect(answers(page)).to_have_count(2)


def test_an_answer_that_is_being_written_is_marked_until_it_is_finished(
    page: Page, priced: System
) -> None:
    page.get_by_role("button", name="New chat").click()
    expect(answers(page)).to_have_count(0)
    choose_model(page, "stream-200-50")
    ask(page, "A long story")
    expect(answers(page)).to_have_count(2)
    dashboard(page, priced)
    recent = page.locator(".st-key-dashboard_recent")
    expect(recent).to_contain_text("A long story")
    expect(recent).to_contain_text("Being written")
    # By itself, without a click.
    expect(recent).not_to_contain_text("Being written")


def test_a_key_that_the_provider_rejects_is_nowhere_green(page: Page, priced: System) -> None:
    priced.provider(rejectKeys=True)
    try:
        page.goto(f"{priced.url}/credentials")
        page.get_by_role("button", name="Test").click()
        expect(page.get_by_text("rejects the key")).to_be_visible()
        dashboard(page, priced)
        card = page.locator(".st-key-dashboard_al-chat")
        expect(card).to_contain_text("Does not work")
        expect(card).to_contain_text("The provider rejects your key. Replace it.")
        expect(page.get_by_text("The provider rejects Personal.")).to_be_visible()
        page.get_by_role("link", name="Replace it").click()
        expect(page.get_by_role("dialog").get_by_label("Label")).to_have_value("Personal")
    finally:
        priced.provider(rejectKeys=False)
