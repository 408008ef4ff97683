"""`make screenshots`: every page at two widths and in both themes, from the running system.

All pictures go to `test-results/screenshots/`; those that README and docs show are copied to
`docs/images/`.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from papita_core.actors import Actor
from papita_core.errors import PapitaError
from papita_core.users.policies import SIGN_UP
from papita_core.users.service import NewUser
from tests.browser.people import (
    add_key,
    answers,
    ask,
    choose_model,
    cookie_is_set,
    expect_door,
    open_al_chat,
    open_context,
    set_up,
    sign_in,
)
from tests.browser_binary import FLAGS, ensure_browser
from tests.system import PASSWORD, ROOT, System

OUT = ROOT / "test-results" / "screenshots"
SHOWN = (
    "al-chat-1280-light",
    "al-chat-1280-dark",
    "dashboard-1280-light",
    "credentials-1280-light",
)
PAGES = {
    "dashboard": "/",
    "credentials": "/credentials",
    "connected-apps": "/connected-apps",
    "access-tokens": "/access-tokens",
    "profile": "/profile",
    "profile-security": "/profile?section=security",
    "profile-sessions": "/profile?section=sessions",
    "profile-activity": "/profile?section=activity",
    "profile-data": "/profile?section=data",
    "users": "/users",
    "projects": "/projects",
    "vault": "/vault",
    "audit": "/audit",
    "welcome": "/al-chat",
    "shared": "/shared",
}
USERS_PARTS = ("Requests", "Invitations", "Lock-outs", "Rules")
TEAM = (
    ("bruno", "Bruno Okafor", "member"),
    ("chiara", "Chiara Lindqvist", "administrator"),
    ("dmitri", "Dmitri Haddad", "member"),
    ("esra", "Esra Nakamura", "guest"),
    ("femi", "Femi Castellanos", "member"),
)


def main() -> int:
    OUT.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        System(Path(folder)) as system,
        sync_playwright() as playwright,
    ):
        chromium = playwright.chromium.launch(executable_path=ensure_browser(), args=list(FLAGS))
        context = open_context(chromium)
        page = context.new_page()
        page.goto(f"{system.url}/?setup={system.setup_code()}")
        expect(page.get_by_role("button", name="Create administrator")).to_be_visible()
        _shoot(page, "set-up-1280-light")
        set_up(page, system)
        cookie_is_set(page)
        add_key(page, system, label="Personal")
        page.get_by_role("button", name="Test").click()
        expect(page.get_by_text("accepts the key")).to_be_visible()
        conversation = _converse(page, system)
        door = _fill_house(system)
        _everywhere(page, system, conversation, "1280-light")
        context.close()
        for width in (1280, 390):
            for dark in (False, True):
                theme = "dark" if dark else "light"
                context = open_context(chromium, width=width, dark=dark)
                page = context.new_page()
                page.goto(system.url)
                expect_door(page)
                _shoot(page, f"sign-in-{width}-{theme}")
                _at_the_door(page, system, door, f"{width}-{theme}")
                sign_in(page)
                expect(page.get_by_role("heading", name="AL-Chat")).to_be_visible()
                cookie_is_set(page)
                _everywhere(page, system, conversation, f"{width}-{theme}")
                context.close()
        chromium.close()
    images = ROOT / "docs" / "images"
    images.mkdir(parents=True, exist_ok=True)
    for name in SHOWN:
        shutil.copyfile(OUT / f"{name}.png", images / f"{name}.png")
    print(f"{len(list(OUT.glob('*.png')))} pictures in {OUT.relative_to(ROOT)}")
    return 0


def _converse(page: Page, system: System) -> str:
    open_al_chat(page, system, consent=True)
    for question in (
        "Which names does the potato have around the world?",
        "How do I store keys safely?",
        "Explain server-sent events in three points",
    ):
        page.get_by_role("button", name="New chat").click()
        expect(answers(page)).to_have_count(0)
        choose_model(page, "demo-fast")
        ask(page, question)
        expect(answers(page).nth(1)).to_contain_text("What I noticed in your message")
        expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    return page.url


def _fill_house(system: System) -> dict[str, str]:
    """A team with what administrators see of it; names of pages of the door, and their links."""
    operator = Actor.operator()
    with system.papita() as papita:
        for name, shown, role in TEAM:
            email = f"{name}@example.org"
            papita.users.create(operator, NewUser(name, PASSWORD, shown, email, role=role))
        papita.users.set_disabled(operator, "femi", True)
        papita.policies.put(operator, SIGN_UP, "approval")
        papita.sign_up.sign_up(NewUser("gwen", PASSWORD, "Gwen Achterberg", "gwen@example.org"))
        papita.sign_up.forgotten("dmitri")
        papita.links.invite(operator, role="guest", note="Agency for the trade fair")
        for _ in range(6):
            with contextlib.suppress(PapitaError):
                papita.sign_in.authenticate("dmitri", "wrong", address="192.0.2.7")
        return {
            "invitation": papita.links.invite(operator, role="member").url,
            "new-password": papita.links.reset_link(operator, "bruno").url,
            "link-over": f"{system.url}/?invite=over",
        }


def _at_the_door(page: Page, system: System, links: dict[str, str], variant: str) -> None:
    for name, button in (
        ("sign-up", "Create an account"),
        ("forgotten", "Forgotten your password?"),
    ):
        page.get_by_role("button", name=button).click()
        expect(page.get_by_role("heading", name=button)).to_be_visible()
        _shoot(page, f"{name}-{variant}")
        page.get_by_role("button", name="Back to log in").click()
        expect_door(page)
    for name, link in links.items():
        page.goto(link)
        expect(page.get_by_role("heading").first).to_be_visible()
        _shoot(page, f"{name}-{variant}")
    page.goto(system.url)
    expect_door(page)


def _everywhere(page: Page, system: System, conversation: str, variant: str) -> None:
    for name, path in PAGES.items():
        page.goto(system.url + path)
        page.wait_for_load_state("networkidle")
        _shoot(page, f"{name}-{variant}")
    page.goto(f"{system.url}/users")
    for part in USERS_PARTS:
        page.get_by_role("radio", name=part, exact=True).click()
        expect(page.get_by_test_id("stApp")).to_have_attribute(
            "data-test-script-state", "notRunning"
        )
        _shoot(page, f"users-{part.lower()}-{variant}")
    page.goto(conversation)
    expect(answers(page)).to_have_count(2)
    _shoot(page, f"al-chat-{variant}")
    page.goto(f"{system.url}/credentials")
    page.get_by_role("button", name="Add credential").click()
    expect(page.get_by_role("dialog").get_by_label("Label")).to_be_visible()
    _shoot(page, f"add-credential-{variant}")


def _shoot(page: Page, name: str) -> None:
    page.wait_for_timeout(700)  # fonts, and the last fade of what was replaced
    page.screenshot(path=OUT / f"{name}.png")


if __name__ == "__main__":
    sys.exit(main())
