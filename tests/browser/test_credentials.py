"""The credentials editor on the running system: import, replace, remind, share, switch off.

The tests stand in their order, on one system; each goes on where the one before it ended. The
scripted provider takes keys that begin with `sk-demo-` and rejects all others.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests.browser.people import (
    SECONDS,
    add_key,
    answers,
    ask,
    choose_model,
    composer,
    expect_dashboard,
    open_al_chat,
    open_context,
    set_up,
    sign_in,
    tab_to,
)
from tests.system import KEY, System

TEAM_KEY = "sk-demo-canary-77c41b2e9d05"
WRONG_KEY = "sk-wrong-0123456789abcdef"


@pytest.fixture(scope="module")
def page(context: BrowserContext, system: System) -> Page:
    """The administrator's tab."""
    made = context.new_page()
    set_up(made, system)
    return made


def test_a_new_key_is_tested_and_the_type_may_change_while_one_types(
    page: Page, system: System
) -> None:
    page.goto(f"{system.url}/credentials")
    page.get_by_role("button", name="Add credential").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Label").fill("Kept while the type changes")
    choose(page, dialog, "Type", "Groq")
    expect(dialog.get_by_label("Base URL")).to_have_value("https://api.groq.com/openai/v1")
    expect(dialog.get_by_label("Label")).to_have_value("Kept while the type changes")
    dialog.get_by_label("API key", exact=True).fill(KEY)
    dialog.get_by_label("API key", exact=True).press("Enter")
    expect(dialog.get_by_text("This does not look like a key of Groq")).to_be_visible()
    choose(page, dialog, "Type", "Other")
    expect(dialog.get_by_label("Field name")).to_be_visible()
    expect(dialog.get_by_label("Base URL")).to_have_count(0)
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)

    add_key(page, system, label="Personal")
    expect(card(page, "Personal").get_by_text("Works")).to_be_visible()
    expect(card(page, "Personal").get_by_text("accepts the key")).to_be_visible()
    expect(page.locator(".st-key-which_key")).to_contain_text("AL-Chat uses Personal (OpenAI)")


def test_keys_are_imported_from_an_env_file(page: Page, system: System) -> None:
    page.get_by_role("button", name="Import .env").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Lines").fill(
        f"OPENAI_API_KEY={KEY}\nOPENAI_BASE_URL={system.provider_url}/v1\n"
        f"TEAM_OPENAI_API_KEY='{TEAM_KEY}'\nTEAM_OPENAI_BASE_URL={system.provider_url}/v1\n"
        f"VLLM_API_KEY={WRONG_KEY}\nVLLM_BASE_URL={system.provider_url}\n"
        "DATABASE_URL=postgres://somebody@somewhere/there\n"
    )
    dialog.get_by_role("button", name="Read").click()
    boxes = dialog.get_by_role("checkbox")
    expect(boxes).to_have_count(3)
    # The first one is stored already, the last one is rejected by the provider.
    expect(dialog.get_by_text("You have stored this key already.")).to_be_visible()
    expect(dialog.get_by_text("The provider rejects the key.")).to_be_visible()
    assert [box.is_checked() for box in boxes.all()] == [False, True, False]
    dialog.get_by_text("Left out: 1 line").click()
    expect(dialog.get_by_text("DATABASE_URL")).to_be_visible()
    dialog.get_by_role("button", name="Store 1 key").click()
    expect(dialog).to_have_count(0)
    expect(card(page, "TEAM_OPENAI_API_KEY").get_by_text("Works")).to_be_visible()
    assert TEAM_KEY not in page.content()


def test_a_file_can_be_uploaded_instead(page: Page) -> None:
    page.get_by_role("button", name="Import .env").click()
    dialog = page.get_by_role("dialog")
    dialog.locator("input[type=file]").set_input_files(
        {"name": "keys.env", "mimeType": "text/plain", "buffer": b"NOTHING=here\n"}
    )
    expect(dialog.get_by_text("No key was recognised.")).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def test_a_new_key_replaces_the_old_one_only_after_its_test(page: Page) -> None:
    dialog = page.get_by_role("dialog")
    card(page, "Personal").get_by_role("button", name="Replace").click()
    dialog.get_by_label("API key", exact=True).fill(WRONG_KEY)
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_text("The provider rejects the key.")).to_be_visible()
    expect(dialog.get_by_text("The old key is still in force.")).to_be_visible()
    expect(dialog.get_by_label("API key", exact=True)).to_have_value(WRONG_KEY)
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(card(page, "Personal")).to_contain_text(f"••••{KEY[-4:]}")
    card(page, "Personal").get_by_role("button", name="Test").click()
    expect(card(page, "Personal").get_by_text("accepts the key")).to_be_visible()

    card(page, "Personal").get_by_role("button", name="Replace").click()
    expect(dialog.get_by_label("API key", exact=True)).to_have_value("")
    dialog.get_by_label("API key", exact=True).fill(WRONG_KEY)
    dialog.get_by_role("button", name="Save").click()
    dialog.get_by_role("button", name="Replace anyway").click()
    expect(dialog).to_have_count(0)
    expect(card(page, "Personal")).to_contain_text(f"••••{WRONG_KEY[-4:]}")

    card(page, "Personal").get_by_role("button", name="Replace").click()
    dialog.get_by_label("API key", exact=True).fill(KEY)
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)
    expect(card(page, "Personal")).to_contain_text(f"••••{KEY[-4:]}")
    expect(card(page, "Personal").get_by_text("Works")).to_be_visible()


def test_the_dashboard_reminds_of_a_key_that_runs_out(page: Page, system: System) -> None:
    until = datetime.now(UTC) + timedelta(days=3)
    answer = requests.post(
        f"{system.url}/api/credentials",
        json={
            "credentialType": "openai",
            "credentials": {"api_key": TEAM_KEY},
            "label": "Runs out",
            "baseUrl": f"{system.provider_url}/v1",
            "expiresAt": until.isoformat(),
        },
        headers={"Authorization": f"Bearer {system.access_token('ana')}"},
        timeout=10,
    )
    assert answer.status_code == 201, answer.text
    page.goto(system.url)
    reminder = page.locator('[class*="st-key-expiring_"]').filter(has_text="Runs out")
    expect(reminder).to_contain_text("expires in 3 days")
    reminder.get_by_role("link", name="Replace it").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Label")).to_have_value("Runs out")
    dialog.get_by_role("button", name="Clear date").click()
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)
    expect(card(page, "Runs out")).not_to_contain_text("Expires in")
    card(page, "Runs out").get_by_role("button", name="Delete").click()
    dialog.get_by_role("button", name="Delete").click()
    expect(dialog).to_have_count(0)
    page.goto(system.url)
    expect_dashboard(page)
    expect(reminder).to_have_count(0)


def test_a_shared_key_is_used_without_being_seen(
    page: Page, system: System, browser: Browser
) -> None:
    system.add_user("bruno")
    page.goto(f"{system.url}/credentials")
    more(page, "TEAM_OPENAI_API_KEY", "Share")
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("Named users").click()
    dialog.get_by_label("Users", exact=True).click()
    page.get_by_role("option", name="bruno").click()
    page.keyboard.press("Escape")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)
    expect(card(page, "TEAM_OPENAI_API_KEY")).to_contain_text("Shared with some users")

    theirs = open_context(browser)
    member = theirs.new_page()
    member.goto(system.url)
    sign_in(member, "bruno")
    expect_dashboard(member)
    member.get_by_role("link", name="Credentials").click()
    shared = member.locator('[class*="st-key-shared_"]')
    expect(shared).to_contain_text("Shared by ana")
    expect(shared.get_by_role("button")).to_have_count(0)
    expect(member.locator(".st-key-which_key")).to_contain_text("which ana shares with you")
    assert TEAM_KEY[-4:] not in member.content()
    open_al_chat(member, system, consent=True)
    choose_model(member, "echo")
    ask(member, "Said with a borrowed key")
    expect(answers(member).nth(1)).to_contain_text("Said with a borrowed key")
    assert TEAM_KEY not in member.content()

    # Whose use it was is on the owner's record.
    page.reload()
    more(page, "TEAM_OPENAI_API_KEY", "Uses")
    newest = dialog.get_by_role("listitem").first
    expect(newest).to_contain_text("AL-Chat for bruno")
    expect(newest).to_contain_text("Lent")
    expect(newest).to_contain_text("run ")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)

    # Switched off, it answers nobody, and the member reads why.
    more(page, "TEAM_OPENAI_API_KEY", "Switch off")
    expect(card(page, "TEAM_OPENAI_API_KEY")).to_contain_text("Switched off")
    ask(member, "Once more")
    expect(answers(member).nth(3)).to_contain_text("switched off", timeout=20 * SECONDS)
    theirs.close()


def test_a_key_that_is_switched_off_is_said_in_the_chat(page: Page, system: System) -> None:
    more(page, "Personal", "Switch off")
    expect(card(page, "Personal")).to_contain_text("Switched off")
    expect(page.locator(".st-key-which_key")).to_contain_text("is switched off")
    open_al_chat(page, system, consent=True)
    ask(page, "With no key")
    expect(answers(page).nth(1)).to_contain_text("switched off", timeout=20 * SECONDS)
    page.goto(f"{system.url}/credentials")
    more(page, "Personal", "Switch on")
    expect(card(page, "Personal").get_by_text("Works")).to_be_visible()
    open_al_chat(page, system, consent=False)
    expect(composer(page)).to_be_enabled()


def test_a_key_is_added_by_keyboard_alone(page: Page, system: System) -> None:
    page.goto(f"{system.url}/credentials")
    expect(page.get_by_role("button", name="Add credential")).to_be_visible()
    tab_to(page, "Add credential")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("API key", exact=True)).to_be_visible()
    tab_to(page, "Label")
    page.keyboard.type("By keys")
    tab_to(page, "API key")
    page.keyboard.type(KEY)
    tab_to(page, "Save")
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("heading", name="By keys")).to_be_visible()


def test_no_key_is_in_any_file(system: System) -> None:
    files = [path for path in system.folder.rglob("*") if path.is_file()]
    assert {"papita.db", "portal.log"} <= {path.name for path in files}
    for path in files:
        held = path.read_bytes()
        for key in (KEY, TEAM_KEY, WRONG_KEY):
            assert key.encode() not in held, path.name


def card(page: Page, label: str) -> Locator:
    return page.locator('[class*="st-key-credentials_"]').filter(has_text=label).first


def choose(page: Page, dialog: Locator, field: str, option: str) -> None:
    dialog.get_by_label(field).click()
    page.get_by_role("option", name=option, exact=True).click()


def more(page: Page, label: str, option: str) -> None:
    """Takes an option of a card's menu."""
    card(page, label).get_by_role("button", name="More").click()
    page.get_by_role("menuitem", name=option, exact=True).click()
