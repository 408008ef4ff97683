"""How people come in, in real browsers: invited, signed up, approved, back with a new password.

One system and one administrator for all of them; whoever comes in has a browser of their own.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from papita_core.actors import Actor
from papita_core.users.policies import SIGN_UP
from papita_core.vault.service import NewCredential
from tests.browser.people import (
    SECONDS,
    answers,
    ask,
    choose_model,
    cookie_is_set,
    expect_dashboard,
    expect_door,
    let_in,
    open_al_chat,
    open_context,
    sign_in,
)
from tests.system import PASSWORD, System

NEW = "meadows hum at dusk"
TEAM_KEY = "sk-demo-canary-0c9e77a1d4b2"
WRONG = "The user name or the password is not right."


@pytest.fixture(scope="module")
def admin(system: System, browser: Browser) -> Iterator[Page]:
    """The administrator's tab, on the Users page, who has just shown who they are."""
    system.add_user("ana", admin=True)
    with open_context(browser) as context:
        let_in(context, system, "ana")
        page = context.new_page()
        page.goto(f"{system.url}/users")
        expect(page.get_by_role("heading", name="Users")).to_be_visible(timeout=40 * SECONDS)
        yield page


@pytest.fixture
def visitor(browser: Browser) -> Iterator[BrowserContext]:
    with open_context(browser) as context:
        yield context


def part(page: Page, name: str) -> None:
    """One of the parts of the Users page, as it is now."""
    page.reload()
    pill = page.get_by_role("radio", name=name, exact=True)
    pill.click()
    expect(pill).to_be_checked()


def link_in(dialog: Locator) -> str:
    """The link that is shown once."""
    shown = dialog.get_by_test_id("stCode")
    expect(shown).to_contain_text("http")
    return "".join(shown.inner_text().split())


def invite(page: Page, role: str) -> str:
    page.get_by_role("button", name="Invite", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.locator("label").filter(has_text=role).first.click()
    dialog.get_by_role("button", name="Make link").click()
    link = link_in(dialog)
    dialog.get_by_role("button", name="Done").click()
    expect(dialog).to_have_count(0)
    return link


def fill_account(page: Page, name: str, button: str, password: str = PASSWORD) -> None:
    page.get_by_label("Username").fill(name)
    page.get_by_label("Display name").fill(name.title())
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_label("Password again").fill(password)
    page.get_by_role("button", name=button, exact=True).click()


def sign_up_is(system: System, value: str) -> None:
    with system.papita() as papita:
        papita.policies.put(Actor.operator(), SIGN_UP, value)


def test_an_invitation_serves_once(admin: Page, system: System, visitor: BrowserContext) -> None:
    link = invite(admin, "member")
    page = visitor.new_page()
    page.goto(link)
    expect(page.get_by_text("You are invited as a member")).to_be_visible(timeout=40 * SECONDS)
    # What is wrong is said at its field, and nothing that was typed is lost.
    fill_account(page, "ana", "Create account")
    expect(page.get_by_text("There is a user of this name").first).to_be_visible()
    expect(page.get_by_label("Display name")).to_have_value("Ana")
    fill_account(page, "mira", "Create account")
    expect_dashboard(page)
    expect(page.get_by_role("heading", name="Hello, Mira")).to_be_visible()
    cookie_is_set(page)
    assert "invite=" not in page.url
    page.reload()
    expect_dashboard(page)
    page.get_by_role("button", name="Log out").click()
    expect_door(page)
    page.goto(link)
    expect(page.get_by_role("heading", name="This link does not work")).to_be_visible()
    page.get_by_role("button", name="Go to log in").click()
    sign_in(page, "mira")
    expect_dashboard(page)


def test_an_invitation_that_was_taken_back_opens_nothing(
    admin: Page, visitor: BrowserContext
) -> None:
    link = invite(admin, "member")
    part(admin, "Invitations")
    admin.get_by_role("button", name="Revoke").click()
    dialog = admin.get_by_role("dialog")
    dialog.get_by_role("button", name="Revoke").click()
    expect(dialog).to_have_count(0)
    expect(admin.get_by_text("No invitation is open.")).to_be_visible()
    page = visitor.new_page()
    page.goto(link)
    expect(page.get_by_role("heading", name="This link does not work")).to_be_visible()


def test_open_sign_up_makes_a_member(system: System, visitor: BrowserContext) -> None:
    page = visitor.new_page()
    page.goto(system.url)
    expect_door(page)
    expect(page.get_by_role("button", name="Create an account")).to_have_count(0)
    sign_up_is(system, "open")
    page.reload()
    page.get_by_role("button", name="Create an account").click()
    expect(page.get_by_role("heading", name="Create an account")).to_be_visible()
    fill_account(page, "noor", "Sign up", "password123")
    expect(page.get_by_text("public lists of leaked passwords").first).to_be_visible()
    fill_account(page, "noor", "Sign up")
    expect(page.get_by_text("You can log in now with this name and password")).to_be_visible()
    page.get_by_role("button", name="Go to log in").click()
    sign_in(page, "noor")
    expect_dashboard(page)
    expect(page.get_by_role("link", name="Users")).to_have_count(0)


def test_who_signs_up_comes_in_once_somebody_has_approved(
    admin: Page, system: System, visitor: BrowserContext
) -> None:
    sign_up_is(system, "approval")
    page = visitor.new_page()
    page.goto(system.url)
    page.get_by_role("button", name="Create an account").click()
    expect(page.get_by_role("heading", name="Create an account")).to_be_visible()
    fill_account(page, "otto", "Sign up")
    expect(page.get_by_text("Your request is noted.")).to_be_visible()
    page.get_by_role("button", name="Go to log in").click()
    sign_in(page, "otto")
    expect(page.get_by_text("An administrator has to approve your account")).to_be_visible()
    part(admin, "Requests")
    row = admin.locator('[class*="st-key-users_waiting_"]').filter(has_text="otto").first
    row.get_by_role("button", name="Approve").click()
    expect(row).to_have_count(0)
    sign_in(page, "otto")
    expect_dashboard(page)
    sign_up_is(system, "closed")


def test_a_forgotten_password_is_set_anew_by_a_link(
    admin: Page, system: System, visitor: BrowserContext
) -> None:
    system.add_user("pia")
    page = visitor.new_page()
    page.goto(system.url)
    page.get_by_role("button", name="Forgotten your password?").click()
    page.get_by_label("Username or e-mail").fill("pia")
    page.get_by_role("button", name="Ask for a link").click()
    expect(page.get_by_text("Your request is noted.")).to_be_visible()
    part(admin, "Requests")
    row = admin.locator('[class*="st-key-users_asked-for-reset_"]').filter(has_text="pia").first
    row.get_by_role("button", name="Make link").click()
    dialog = admin.get_by_role("dialog")
    dialog.get_by_role("button", name="Make link").click()
    link = link_in(dialog)
    dialog.get_by_role("button", name="Done").click()
    expect(dialog).to_have_count(0)
    page.goto(link)
    expect(page.get_by_role("heading", name="Set a new password")).to_be_visible()
    page.get_by_label("Password", exact=True).fill(NEW)
    page.get_by_label("Password again").fill(NEW)
    page.get_by_role("button", name="Set password").click()
    expect(page.get_by_text("Your password is set. Log in with it.")).to_be_visible()
    sign_in(page, "pia", PASSWORD)
    expect(page.get_by_text(WRONG)).to_be_visible()
    sign_in(page, "pia", NEW)
    expect_dashboard(page)
    # What was said at the door is not said again at the next sign-in of this tab.
    page.get_by_role("button", name="Log out").click()
    expect_door(page)
    expect(page.get_by_text("Your password is set.")).to_have_count(0)


def test_a_guest_has_no_editor_is_refused_by_the_api_and_chats_with_a_shared_key(
    admin: Page, system: System, visitor: BrowserContext
) -> None:
    with system.papita() as papita:
        owner = papita.users.by_username("ana")
        assert owner is not None
        session = papita.sessions.start(owner.id).session
        who = Actor.for_session(session)
        new = NewCredential(
            "openai", {"api_key": TEAM_KEY}, label="Team", base_url=f"{system.provider_url}/v1"
        )
        made = papita.credentials.create(who, new)
        papita.credentials.share(who, made.id, everybody=True, usernames=(), etag=made.etag)
    page = visitor.new_page()
    page.goto(invite(admin, "guest"))
    expect(page.get_by_text("You are invited as a guest")).to_be_visible()
    fill_account(page, "gus", "Create account")
    expect_dashboard(page)
    cookie_is_set(page)
    menu = page.get_by_test_id("stSidebarNav")
    expect(menu.get_by_role("link", name="AL-Chat")).to_be_visible()
    for name in ("Credentials", "Users", "Vault", "Audit log"):
        expect(menu.get_by_role("link", name=name)).to_have_count(0)
    page.goto(f"{system.url}/credentials")
    expect(page.get_by_text("You may not open this page.")).to_be_visible()
    expect(page.get_by_role("button", name="Add credential")).to_have_count(0)
    cookies = {str(c.get("name")): str(c.get("value")) for c in visitor.cookies()}
    headers = {"X-Papita-Portal": "1", "Origin": system.url}
    api = f"{system.url}/api/credentials"
    stored = {"credentialType": "openai", "credentials": {"api_key": "sk-demo-own-key-000"}}
    for answer in (
        requests.get(api, cookies=cookies, headers=headers, timeout=20),
        requests.post(api, cookies=cookies, headers=headers, json=stored, timeout=20),
    ):
        assert answer.status_code == 403, answer.text
        assert answer.json()["code"] == "forbidden"
    # With what others share they chat like anybody.
    open_al_chat(page, system, consent=True)
    choose_model(page, "echo")
    ask(page, "Said by a guest")
    expect(answers(page).nth(1)).to_contain_text("Said by a guest")
    expect(answers(page).nth(1).get_by_role("toolbar")).to_be_visible()
    assert TEAM_KEY not in page.content()
