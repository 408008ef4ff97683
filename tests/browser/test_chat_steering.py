"""What one does with messages that are there, in a real browser on the running system."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, Locator, Page, expect

from demo.provider.scripts import script_for
from tests.browser.people import (
    SECONDS,
    answers,
    arrive,
    ask,
    choose_model,
    idle,
    open_context,
)
from tests.system import System

LONG = 150


@pytest.fixture(scope="module")
def system(shared_system: System) -> System:
    return shared_system


@pytest.fixture(scope="module")
def page(browser: Browser, system: System) -> Iterator[Page]:
    context = open_context(browser)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    yield arrive(context, system, "stella")
    context.close()


def bar(page: Page, number: int) -> Locator:
    """The bar of that bubble; a mouse over the bubble shows it."""
    answers(page).nth(number).hover()
    found: Locator = answers(page).nth(number).get_by_role("toolbar")
    return found


def click(page: Page, number: int, name: str) -> None:
    bar(page, number).get_by_role("button", name=name, exact=True).click()


def start(page: Page, question: str, model: str = "echo") -> None:
    page.get_by_role("button", name="New chat").click()
    expect(answers(page)).to_have_count(0)
    choose_model(page, model)
    ask(page, question)


def finished(page: Page) -> None:
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    expect(answers(page).last.get_by_role("toolbar")).to_be_visible()
    idle(page)


def test_versions_of_questions_and_answers(page: Page) -> None:
    start(page, "first words")
    finished(page)
    click(page, 1, "Regenerate")
    expect(answers(page).nth(1)).to_contain_text("2/2")
    finished(page)
    click(page, 1, "Regenerate with another model")
    field = page.get_by_role("combobox", name="Another model")
    field.click()
    page.get_by_role("option", name="demo-fast", exact=True).click()
    expect(answers(page).nth(1)).to_contain_text("3/3")
    expect(answers(page).nth(1)).to_contain_text("What I noticed in your message")
    finished(page)
    page.reload()
    expect(answers(page).nth(1)).to_contain_text("3/3")
    click(page, 1, "Previous version")
    expect(answers(page).nth(1)).to_contain_text("2/3")
    expect(answers(page).nth(1)).not_to_contain_text("What I noticed")

    click(page, 0, "Edit")
    field = page.get_by_role("textbox", name="Edit your message")
    expect(field).to_have_value("first words")
    field.fill("something else")
    page.get_by_role("button", name="Cancel").click()
    expect(answers(page).nth(0)).to_contain_text("first words")
    click(page, 0, "Edit")
    field.fill("second words")
    page.get_by_role("button", name="Save & send").click()
    expect(answers(page).nth(0)).to_contain_text("second words")
    expect(answers(page).nth(0)).to_contain_text("2/2")
    expect(answers(page).nth(1)).to_contain_text("second words", ignore_case=True)
    finished(page)
    page.reload()
    expect(answers(page)).to_have_count(2)
    click(page, 0, "Previous version")
    expect(answers(page).nth(0)).to_contain_text("first words")
    # Down to the newest answer of it.
    expect(answers(page).nth(1)).to_contain_text("3/3")


def test_copy_and_a_branch_into_a_new_chat(page: Page) -> None:
    start(page, "Keep **this** and `that`")
    finished(page)
    click(page, 1, "Copy")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == "Keep **this** and `that`"
    here = page.url
    ask(page, "not this")
    expect(answers(page)).to_have_count(4)
    finished(page)
    click(page, 1, "Branch from here")
    expect(page).not_to_have_url(here)
    expect(answers(page)).to_have_count(2)
    expect(answers(page).nth(1)).to_contain_text("Keep this and that")


def test_a_stopped_answer_goes_on_in_the_same_bubble(page: Page) -> None:
    start(page, "go", "stream-200-40")
    expect(answers(page).nth(1)).to_contain_text("the quick brown potato")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Stopped.")).to_be_visible()
    page.get_by_role("button", name="Continue", exact=True).click()
    expect(page.get_by_text("Stopped.")).to_have_count(0)
    finished(page)
    expect(answers(page)).to_have_count(2)
    whole = script_for("stream-200-40").text
    expect(answers(page).nth(1)).to_contain_text(whole, use_inner_text=True)
    expect(page.get_by_role("button", name="Continue", exact=True)).to_have_count(0)


def compare(page: Page, first: str, *others: str) -> Locator:
    """A new chat in which those models answer; their answers, once there are any."""
    page.get_by_role("button", name="New chat").click()
    expect(answers(page)).to_have_count(0)
    choose_model(page, first)
    page.get_by_role("button", name="Settings", exact=True).click()
    page.get_by_role("menuitem", name="Compare models").click()
    dialog = page.get_by_role("dialog", name="Compare models")
    field = dialog.get_by_role("combobox", name="Models")
    for model in others:
        field.fill(model)
        page.get_by_role("option", name=re.compile(rf"{model}$")).click()
    # The list stands over the button until one goes on.
    page.keyboard.press("Tab")
    dialog.get_by_role("button", name="Compare", exact=True).click()
    expect(dialog).to_have_count(0)
    expect(page.get_by_text(f"Compared: {', '.join((first, *others))}")).to_be_visible()
    return page.locator('[class*="st-key-al_chat_beside_"]')


def test_models_answer_side_by_side_and_the_chat_goes_on_with_one(page: Page) -> None:
    beside = compare(page, "echo", "stream-1200-40", "demo-fast")
    ask(page, "Who says it best?")
    expect(beside).to_have_count(3)
    expect(beside.nth(0)).to_contain_text("Who says it best?")
    expect(beside.nth(1)).to_contain_text("the quick brown potato")
    expect(beside.nth(2)).to_contain_text("What I noticed in your message")
    # All of them are still there for whoever comes back in the midst of it.
    page.reload()
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    expect(beside.nth(1)).to_contain_text("the quick brown potato")
    expect(beside.nth(0)).to_contain_text("Who says it best?")
    page.get_by_role("button", name="Stop").click()
    expect(beside.nth(1)).to_contain_text("Stopped.")
    choice = page.get_by_role("button", name="Go on with this answer")
    expect(choice).to_have_count(3)
    expect(choice.nth(0)).to_have_attribute("aria-pressed", "true")
    choice.nth(2).click()
    expect(choice.nth(2)).to_have_attribute("aria-pressed", "true")
    expect(choice.nth(0)).to_have_attribute("aria-pressed", "false")

    # A new page compares no more; the next message follows the answer that was chosen.
    choose_model(page, "echo")
    ask(page, "And now?")
    expect(answers(page)).to_have_count(4)
    expect(answers(page).nth(3)).to_contain_text("And now?")
    expect(beside).to_have_count(0)
    expect(answers(page).nth(1)).to_contain_text("What I noticed in your message")
    expect(answers(page).nth(1)).to_contain_text("3/3")


def test_what_fails_beside_others_is_tried_again_there(page: Page) -> None:
    beside = compare(page, "echo", "no-such-model", "no-such-thing")
    ask(page, "Is anybody there?")
    expect(beside).to_have_count(3)
    again = page.get_by_role("button", name="Try again")
    expect(again).to_have_count(2)
    expect(beside.nth(0)).to_contain_text("Is anybody there?")
    again.first.click()
    expect(beside).to_have_count(4)
    expect(again).to_have_count(3)
    expect(beside.nth(3)).to_contain_text("no-such-model")
    # The one that answered is still the one that the chat goes on with.
    choice = beside.nth(0).get_by_role("button", name="Go on with this answer")
    expect(choice).to_have_attribute("aria-pressed", "true")
    beside.nth(0).get_by_role("button", name="Regenerate with another model").click()
    dialog = page.get_by_role("dialog", name="Another model")
    dialog.get_by_text("Show it beside this answer").click()
    dialog.get_by_role("combobox", name="Another model").click()
    page.get_by_role("option", name="demo-fast", exact=True).click()
    expect(beside).to_have_count(5)
    expect(beside.nth(4)).to_contain_text("What I noticed in your message")
    page.get_by_role("button", name="Only one model").click()
    expect(page.get_by_text("Compared:")).to_have_count(0)


def test_thumbs_with_words_and_an_edit_disturb_no_answer(page: Page) -> None:
    start(page, "before")
    finished(page)
    choose_model(page, "stream-400-50")
    ask(page, "and now at length")
    expect(answers(page)).to_have_count(4)
    expect(answers(page).nth(3)).to_contain_text("the quick")
    click(page, 1, "Bad answer")
    words = page.get_by_role("textbox", name="What was wrong?")
    words.fill("too short")
    page.get_by_role("button", name="Send", exact=True).click()
    expect(words).to_have_count(0)
    click(page, 0, "Edit")
    field = page.get_by_role("textbox", name="Edit your message")
    field.fill("half of a thought")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    expect(page.get_by_role("button", name="Save & send")).to_be_disabled()
    expect(page.get_by_role("button", name="Stop")).to_have_count(0, timeout=40 * SECONDS)
    finished(page)
    # All of it has arrived, and what was typed meanwhile is still there.
    whole = script_for("stream-400-50").text
    expect(answers(page).nth(3)).to_contain_text(whole, use_inner_text=True)
    expect(field).to_have_value("half of a thought")
    page.get_by_role("button", name="Cancel").click()

    page.reload()
    thumb = answers(page).nth(1).get_by_role("button", name="Bad answer")
    expect(thumb).to_have_attribute("aria-pressed", "true")
    # A click on the same thumb takes it back.
    click(page, 1, "Bad answer")
    expect(thumb).to_have_attribute("aria-pressed", "false")
    page.reload()
    expect(thumb).to_have_attribute("aria-pressed", "false")


def test_a_long_conversation_opens_at_its_end_and_goes_back(page: Page, system: System) -> None:
    place = _import(system, _long(LONG))
    page.goto(f"{system.url}/al-chat?conversation={place}")
    last = page.get_by_text(f"Answer {LONG}.", exact=True)
    expect(last).to_be_in_viewport()
    expect(page.get_by_text("Answer 1.", exact=True)).to_have_count(0)
    count = answers(page).count()

    click(page, count - 1, "Good answer")
    expect(page.get_by_role("textbox", name="What was good?")).to_be_visible()
    page.get_by_role("button", name="Close", exact=True).click()

    first = answers(page).first
    kept = first.get_by_text(re.compile(r"^Question \d+\.$"))
    expect(kept).to_be_attached()
    kept = page.get_by_text(kept.inner_text(), exact=True)
    kept.scroll_into_view_if_needed()
    expect(answers(page)).not_to_have_count(count)
    expect(kept).to_be_in_viewport()

    idle(page)
    page.get_by_role("button", name="Questions").click()
    page.get_by_role("textbox", name="Search questions").fill("Question 7.")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Question 7.", exact=True).click()
    expect(page.get_by_test_id("stChatMessage").get_by_text("Question 7.")).to_be_in_viewport()
    expect(last).not_to_be_in_viewport()


def _long(pairs: int) -> dict[str, Any]:
    """A conversation of our own format; see docs/export-format.md."""
    when = "2026-11-01T12:00:00Z"
    messages: list[dict[str, Any]] = []
    for number in range(1, pairs + 1):
        for role, text in (("user", f"Question {number}."), ("assistant", f"Answer {number}.")):
            messages.append(
                {
                    "id": f"m{len(messages)}",
                    "parentId": f"m{len(messages) - 1}" if messages else None,
                    "role": role,
                    "content": text,
                    "createdAt": when,
                }
            )
    return {
        "format": "al-chat-conversation/1",
        "id": "long",
        "title": "Long",
        "createdAt": when,
        "updatedAt": when,
        "lastMessageAt": when,
        "activeMessageId": messages[-1]["id"],
        "messages": messages,
    }


def _import(system: System, conversation: dict[str, Any]) -> str:
    headers = {"Authorization": f"Bearer {system.access_token('stella')}"}
    launched = requests.post(
        f"{system.url}/api/projects/al-chat/launch", headers=headers, timeout=20
    )
    found = requests.post(
        f"{system.alchat_url}/api/imports",
        data=json.dumps(conversation).encode(),
        headers={
            "Authorization": f"Bearer {launched.json()['token']}",
            "Content-Type": "application/json",
        },
        timeout=60,
    )
    place = found.json()["conversationIds"][0]
    assert re.fullmatch(r"\w+", place)
    return str(place)
