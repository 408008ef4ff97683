"""Dictation: what is spoken becomes words in the input, and nothing is lost where that fails."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from demo.provider.recordings import HEARING_PREFIX
from papita_core.actors import Actor
from papita_core.vault.service import NewCredential
from tests.browser.people import (
    answers,
    arrive,
    ask,
    choose_model,
    composer,
    expect_door,
    open_context,
    sign_in,
)
from tests.browser_binary import FLAGS, find_browser
from tests.system import System

# A microphone that beeps, and nobody who has to be asked for it.
MICROPHONE = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
KEY = f"{HEARING_PREFIX}canary-91b7"
HEARD = re.compile(r"^I heard \d+\.\d seconds of WAV\.$")


@pytest.fixture(scope="module")
def system(shared_system: System) -> System:
    return shared_system


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = find_browser()
    assert path is not None
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=[*FLAGS, *MICROPHONE])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def page(browser: Browser, system: System) -> Iterator[Page]:
    context = open_context(browser)
    context.grant_permissions(["microphone"], origin=system.url)
    page = arrive(context, system, "delia", key=False)
    with system.papita() as papita:
        user = papita.users.by_username("delia")
        assert user is not None
        who = Actor(user.id, user.username, user.role)
        address = f"{system.provider_url}/v1"
        papita.credentials.create(
            who, NewCredential("openai", {"api_key": KEY}, label="Hears", base_url=address)
        )
    yield page
    context.close()


@pytest.fixture(autouse=True)
def _in_a_new_chat(page: Page, system: System) -> Iterator[None]:
    page.goto(f"{system.url}/al-chat")
    expect(composer(page)).to_be_visible()
    yield
    system.provider(down=False, rejectKeys=False)


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def record(page: Page) -> None:
    """Speaks for a moment and sends that."""
    page.get_by_test_id("stChatInputMicButton").click()
    expect(page.get_by_test_id("stChatInputApproveButton")).to_be_visible()
    page.wait_for_timeout(700)  # the time that it takes to speak
    page.get_by_test_id("stChatInputApproveButton").click()


def hears(page: Page) -> str:
    """The words that have come into the input."""
    expect(composer(page)).to_have_value(HEARD)
    return composer(page).input_value()


def test_words_stand_in_the_input_to_be_read_and_sent(page: Page) -> None:
    record(page)
    words = hears(page)
    expect(answers(page)).to_have_count(0)
    choose_model(page, "echo")
    composer(page).press("End")
    page.keyboard.type(" Really.")
    composer(page).press("Enter")
    expect(answers(page).nth(1)).to_contain_text(f"{words} Really.")
    expect(button(page, "Stop")).to_have_count(0)
    expect(composer(page)).to_have_value("")


def test_what_was_beside_it_goes_along(page: Page, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("Potatoes are tubers.\n")
    choose_model(page, "echo")
    page.locator("input[type=file]").first.set_input_files([notes])
    expect(page.get_by_test_id("stChatInput")).to_contain_text("notes.txt")
    composer(page).fill("Typed before.")
    record(page)
    expect(composer(page)).to_have_value(
        re.compile(r"^Typed before\. I heard \d\.\d seconds of WAV\.$")
    )
    expect(page.get_by_text("With your next message:")).to_be_visible()
    expect(page.get_by_role("button", name="Leave notes.txt out")).to_be_visible()
    composer(page).press("Enter")
    expect(answers(page).nth(1)).to_contain_text("Potatoes are tubers.")
    expect(answers(page).nth(0).get_by_role("link", name="notes.txt")).to_be_visible()
    expect(page.get_by_text("With your next message:")).to_have_count(0)
    expect(button(page, "Stop")).to_have_count(0)


def test_while_an_answer_is_written_and_after_one_has_gone_elsewhere(page: Page) -> None:
    choose_model(page, "stream-2000-20")
    ask(page, "A long one")
    expect(answers(page).nth(1)).to_contain_text("quick brown")
    here = page.url
    record(page)
    hears(page)
    expect(button(page, "Stop")).to_be_visible()
    expect(page.get_by_text("Turning your words into text")).to_have_count(0)
    composer(page).fill("")
    button(page, "Stop").click()
    expect(button(page, "Stop")).to_have_count(0)

    # The words wait where they were spoken.
    page.evaluate(
        """() => {
          const leave = () => {
            const listening = document.querySelector(".st-key-al_chat_dictation")
            if (listening) document.querySelector(".st-key-al_chat_new button").click()
            else requestAnimationFrame(leave)
          }
          leave()
        }"""
    )
    record(page)
    expect(answers(page)).to_have_count(0)
    expect(composer(page)).to_have_value("")
    page.get_by_role("button", name="A long one").first.click()
    expect(page).to_have_url(here)
    hears(page)
    composer(page).fill("")


def test_a_provider_that_fails_loses_nothing(page: Page, system: System, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("Potatoes are tubers.\n")
    system.provider(rejectKeys=True)
    page.locator("input[type=file]").first.set_input_files([notes])
    expect(page.get_by_test_id("stChatInput")).to_contain_text("notes.txt")
    composer(page).fill("Typed before.")
    record(page)
    expect(page.get_by_text("The provider rejected your API key")).to_be_visible()
    expect(button(page, "Replace the key")).to_be_visible()
    kept = answers(page).nth(0)
    expect(kept).to_contain_text("Typed before.")
    expect(kept).to_contain_text("notes.txt")
    # What was recorded can be listened to.
    length = kept.locator("audio").evaluate(
        """audio => audio.duration || new Promise((done) => {
          audio.onloadedmetadata = () => done(audio.duration)
        })"""
    )
    assert length > 0.3
    expect(composer(page)).to_have_value("")
    system.provider(rejectKeys=False)
    button(page, "Try again").click()
    expect(composer(page)).to_have_value(re.compile(r"^Typed before\. I heard \d\.\d seconds"))
    expect(answers(page)).to_have_count(0)
    expect(page.get_by_role("button", name="Leave notes.txt out")).to_be_visible()
    page.get_by_role("button", name="Leave notes.txt out").click()
    expect(page.get_by_text("notes.txt")).to_have_count(0)

    # Discarding drops the recording, and not what was typed beside it.
    system.provider(down=True)
    record(page)
    expect(page.get_by_text("The provider could not be reached")).to_be_visible()
    button(page, "Discard").click()
    expect(answers(page)).to_have_count(0)
    expect(composer(page)).to_have_value(re.compile(r"^Typed before\. I heard \d\.\d seconds"))
    composer(page).fill("")

    # Nor does it stay for whoever signs in after one has left.
    record(page)
    expect(page.get_by_text("The provider could not be reached")).to_be_visible()
    button(page, "Log out").click()
    expect_door(page)
    system.add_user("dana")
    sign_in(page, "dana")
    expect(composer(page)).to_be_visible()
    expect(page.get_by_text("The provider could not be reached")).to_have_count(0)
    expect(answers(page)).to_have_count(0)


def test_no_microphone_where_nothing_transcribes(browser: Browser, system: System) -> None:
    context = open_context(browser)
    page = arrive(context, system, "dora")
    choose_model(page, "echo")
    expect(page.get_by_test_id("stChatInputMicButton")).to_have_count(0)
    context.close()
