"""No page has a serious fault by axe-core (WCAG 2.2 A and AA), in the light or the dark theme."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from papita_core.actors import Actor
from papita_core.errors import PapitaError
from papita_core.users.policies import SIGN_UP
from papita_core.users.service import NewUser
from portal.navigation import PAGES, PageEntry
from tests.browser.people import (
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

OPTIONS = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"],
    "resultTypes": ["violations"],
}
# Streamlit puts the headings of the menu's sections right into its list, and paints code in an
# answer in colours of its own, whatever the theme.
CONTEXT = {"exclude": ['[data-testid="stSidebarNavItems"]', '[data-testid="stChatMessage"] .token']}
MENUS = ("Options", "Settings", "Manage")


@pytest.fixture(scope="module")
def page(browser: Browser, system: System) -> Iterator[Page]:
    context = open_context(browser)
    page = context.new_page()
    page.goto(system.url)
    expect(page.get_by_role("button", name="Create administrator")).to_be_visible()
    yield page
    context.close()


def faults(page: Page) -> list[str]:
    """What is serious or critical, in both themes: rule, theme and the elements concerned."""
    found = []
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        page.wait_for_timeout(300)
        for one in Axe().run(page, context=CONTEXT, options=OPTIONS).response["violations"]:
            if one["impact"] in ("serious", "critical"):
                where = "; ".join(node["html"][:160] for node in one["nodes"][:4])
                found.append(f"{one['id']} ({theme}): {where}")
    return found


def test_before_one_is_signed_in(page: Page, system: System) -> None:
    assert faults(page) == []
    set_up(page, system)
    cookie_is_set(page)
    page.get_by_role("button", name="Log out").click()
    expect_door(page)
    assert faults(page) == []
    page.get_by_label("Username").fill("ana")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_text("Enter your user name and your password.")).to_be_visible()
    assert faults(page) == []


def test_a_conversation(page: Page, system: System) -> None:
    sign_in(page)
    expect_dashboard(page)
    assert faults(page) == []
    cookie_is_set(page)
    add_key(page, system)
    open_al_chat(page, system, consent=True)
    assert faults(page) == []
    choose_model(page, "thinking-20-5")
    ask(page, "A list, a table and code")
    expect(answers(page).nth(1).get_by_role("toolbar")).to_be_visible()
    choose_model(page, "demo-fast")
    ask(page, "A list, a table and code")
    expect(answers(page).nth(3)).to_contain_text("What I noticed in your message")
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    assert faults(page) == []
    row = page.locator('[class*="st-key-al_chat_open_"]').first
    row.hover()
    menus = [page.get_by_role("button", name=name, exact=True) for name in MENUS]
    for menu in (*menus, row.get_by_role("button", name="Options of")):
        menu.click()
        expect(menu).to_have_attribute("aria-expanded", "true")
        assert faults(page) == []
        page.keyboard.press("Escape")
        expect(menu).to_have_attribute("aria-expanded", "false")


@pytest.mark.parametrize("entry", PAGES, ids=lambda entry: entry.name)
def test_every_page(page: Page, system: System, entry: PageEntry) -> None:
    page.goto(f"{system.url}/{entry.path}")
    expect(page.get_by_role("heading").first).to_be_visible()
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
    assert faults(page) == []


def test_the_dialog_for_a_key(page: Page, system: System) -> None:
    page.goto(f"{system.url}/credentials")
    page.get_by_role("button", name="Add credential").click()
    expect(page.get_by_role("dialog").get_by_label("Label")).to_be_visible()
    assert faults(page) == []


@pytest.mark.parametrize("section", ["security", "sessions", "activity", "data"])
def test_the_sections_of_the_profile(page: Page, system: System, section: str) -> None:
    page.goto(f"{system.url}/profile?section={section}")
    expect(page.get_by_role("heading", name="Profile")).to_be_visible()
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
    assert faults(page) == []


@pytest.mark.parametrize("part", ["Requests", "Invitations", "Lock-outs", "Rules"])
def test_the_parts_of_the_users_page(page: Page, system: System, part: str) -> None:
    with system.papita() as papita:
        if part == "Requests":
            papita.policies.put(Actor.operator(), SIGN_UP, "approval")
            papita.sign_up.sign_up(NewUser("otto", PASSWORD))
            papita.sign_up.forgotten("ana")
        elif part == "Invitations":
            papita.links.invite(Actor.operator(), role="guest", note="For the fair")
        elif part == "Lock-outs":
            for _ in range(6):
                with contextlib.suppress(PapitaError):
                    papita.sign_in.authenticate("otto", "wrong", address="192.0.2.7")
    page.goto(f"{system.url}/users")
    page.get_by_role("radio", name=part, exact=True).click()
    there = {
        "Requests": page.get_by_role("button", name="Approve"),
        "Invitations": page.get_by_role("button", name="Revoke"),
        "Lock-outs": page.get_by_text("192.0.2.7").first,
        "Rules": page.get_by_text("Who may sign up"),
    }[part]
    expect(there).to_be_visible()
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
    assert faults(page) == []


def test_what_the_door_leads_to(browser: Browser, system: System) -> None:
    """Signing up, asking for a password; an invitation, a link for a new one, one that is over."""
    with system.papita() as papita:
        papita.policies.put(Actor.operator(), SIGN_UP, "open")
        invitation = papita.links.invite(Actor.operator(), role="member").url
        reset = papita.links.reset_link(Actor.operator(), "ana").url
    with open_context(browser) as context, context.new_page() as page:
        page.goto(system.url)
        for button, title in (
            ("Create an account", "Create an account"),
            ("Forgotten your password?", "Forgotten your password?"),
        ):
            page.get_by_role("button", name=button).click()
            expect(page.get_by_role("heading", name=title)).to_be_visible()
            assert faults(page) == []
            page.get_by_role("button", name="Back to log in").click()
            expect_door(page)
        for link, title in (
            (invitation, "Welcome to Papita"),
            (reset, "Set a new password"),
            (f"{system.url}/?reset=gone", "This link does not work"),
        ):
            page.goto(link)
            expect(page.get_by_role("heading", name=title)).to_be_visible()
            assert faults(page) == []


def test_the_dialog_for_a_new_password(page: Page, system: System) -> None:
    page.goto(f"{system.url}/profile?section=security")
    page.get_by_role("button", name="Change password").click()
    field = page.get_by_role("dialog").get_by_label("New password", exact=True)
    field.fill("password123")
    expect(page.get_by_role("dialog").get_by_text("Very weak")).to_be_visible()
    assert faults(page) == []
