"""Single sign-on in a browser: portal and a certified provider run as real processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from sqlalchemy import text

from tests.browser.people import (
    SECONDS,
    expect_dashboard,
    expect_door,
    idle,
    open_context,
    session_cookie,
    sign_in,
)
from tests.identity_providers import CertifiedProvider, table
from tests.system import System, free_port


@dataclass
class Office:
    """The portal, the provider of its people, one that hears of log-outs, and one that is down."""

    system: System
    provider: CertifiedProvider
    told: CertifiedProvider


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = Path(tmp_path_factory.mktemp("office"))
    system = System(folder / "system")
    provider = CertifiedProvider(folder / "provider", system.url)
    told = CertifiedProvider(folder / "told", system.url)
    file = folder / "oidc.toml"
    file.write_text(
        provider.table("corp", sign_up=True)
        + told.table("told", sign_up=True, logout_at_provider=True)
        + table("gone", f"http://localhost:{free_port()}", title="Gone"),
        "utf-8",
    )
    system.env["PAPITA_OIDC_FILE"] = str(file)
    with provider, told, system:
        system.add_user("root", admin=True)
        yield Office(system, provider, told)


@contextmanager
def somebody(browser: Browser) -> Iterator[BrowserContext]:
    context = open_context(browser)
    # The provider's own pages ask for a font of others.
    context.route(lambda url: not url.startswith("http://localhost:"), lambda route: route.abort())
    yield context
    context.close()


def go_there(page: Page, title: str = "Corp") -> None:
    page.get_by_role("button", name=f"Continue with {title}").click()


def log_in_there(page: Page, name: str) -> None:
    """Fills in the provider's own form."""
    page.locator("input[name=login]").fill(name)
    page.locator("input[name=password]").fill("any")
    page.get_by_role("button", name="Sign-in").click()


def arrive_by_provider(page: Page, office: Office, name: str) -> None:
    page.goto(office.system.url)
    go_there(page)
    log_in_there(page, name)
    expect_dashboard(page)


def test_a_round_trip_ends_on_the_page_that_was_asked_for(browser: Browser, office: Office) -> None:
    with somebody(browser) as context:
        page = context.new_page()
        page.goto(f"{office.system.url}/credentials")
        page.get_by_text("Keep me signed in").click()
        go_there(page)
        log_in_there(page, "lena")
        expect(page.get_by_role("button", name="Add credential")).to_be_visible()
        assert page.url == f"{office.system.url}/credentials"
        expect(page.get_by_test_id("stSidebar").get_by_text("Lena")).to_be_visible()
        cookie = session_cookie(context)
        assert cookie is not None
        assert cookie["httpOnly"] is True
        assert float(str(cookie["expires"])) > time.time() + 13 * 86400
        page.reload()
        expect(page.get_by_role("button", name="Add credential")).to_be_visible()
        assert len(context.pages) == 1


def test_who_does_not_want_to_be_kept_is_not(browser: Browser, office: Office) -> None:
    with somebody(browser) as context:
        page = context.new_page()
        arrive_by_provider(page, office, "max")
        cookie = session_cookie(context)
        assert cookie is not None
        assert cookie["expires"] == -1


def test_it_can_be_done_by_keyboard(browser: Browser, office: Office) -> None:
    with somebody(browser) as context:
        page = context.new_page()
        page.goto(office.system.url)
        page.get_by_role("button", name="Continue with Corp").focus()
        page.keyboard.press("Enter")
        page.locator("input[name=login]").focus()
        page.keyboard.type("kim")
        page.keyboard.press("Tab")
        page.keyboard.type("any")
        page.keyboard.press("Enter")
        expect_dashboard(page)


def test_linking_and_coming_by_it_from_then_on(browser: Browser, office: Office) -> None:
    office.system.add_user("ana")
    with somebody(browser) as context:
        page = context.new_page()
        page.goto(f"{office.system.url}/profile?section=security")
        sign_in(page, "ana")
        page.get_by_role("button", name="Link", exact=True).first.click()
        log_in_there(page, "ana.there")
        expect(page.get_by_text("Linked: from now on")).to_be_visible()
        expect(page.get_by_text("ana.there@corp.example")).to_be_visible()
        assert page.url == f"{office.system.url}/profile?section=security"
        page.get_by_role("button", name="Log out").click()
        expect_door(page)
        go_there(page)
        # The provider knows its user, and asks nothing.
        expect(page.get_by_test_id("stSidebar").get_by_text("ana")).to_be_visible()


def test_the_provider_logs_out_and_an_open_tab_is_empty_within_ten_seconds(
    browser: Browser, office: Office
) -> None:
    with somebody(browser) as context:
        page = context.new_page()
        arrive_by_provider(page, office, "olga")
        other = context.new_page()
        other.goto(f"{office.provider.issuer}/session/end")
        other.get_by_role("button", name="Yes, sign me out").click()
        began = time.monotonic()
        expect(page.get_by_role("button", name="Log in", exact=True)).to_be_visible(
            timeout=10 * SECONDS
        )
        assert time.monotonic() - began < 10
        page.reload()
        expect_door(page)


def test_log_out_ends_the_session_at_the_provider_as_well(browser: Browser, office: Office) -> None:
    with somebody(browser) as context:
        page = context.new_page()
        page.goto(office.system.url)
        go_there(page, "Told")
        log_in_there(page, "uwe")
        expect_dashboard(page)
        page.get_by_role("button", name="Log out").click()
        page.get_by_role("button", name="Yes, sign me out").click()
        expect_door(page)
        assert session_cookie(context) is None
        go_there(page, "Told")
        expect(page.locator("input[name=login]")).to_be_visible()


def test_a_provider_that_is_down_leaves_the_other_ways_in(browser: Browser, office: Office) -> None:
    with somebody(browser) as context:
        page = context.new_page()
        page.goto(f"{office.system.url}/profile?section=security")
        go_there(page, "Gone")
        expect(page.get_by_text("The provider does not answer.")).to_be_visible()
        sign_in(page, "root")
        expect(page.get_by_role("heading", name="Profile")).to_be_visible()
        assert page.url == f"{office.system.url}/profile?section=security"


def test_an_answer_that_is_opened_again_signs_nobody_in(browser: Browser, office: Office) -> None:
    with somebody(browser) as context:
        page = context.new_page()
        answers: list[str] = []
        page.on(
            "request",
            lambda request: "/auth/oidc/callback" in request.url and answers.append(request.url),
        )
        arrive_by_provider(page, office, "nora")
        page.get_by_role("button", name="Log out").click()
        expect_door(page)
        page.goto(answers[0])
        expect(page.get_by_text("This attempt to log in was used already")).to_be_visible()
        expect_door(page)


def test_confirming_at_the_provider(browser: Browser, office: Office) -> None:
    with somebody(browser) as context:
        page = context.new_page()
        arrive_by_provider(page, office, "petra")
        with office.system.papita() as papita, papita.database.write() as session:
            session.execute(text("UPDATE sign_in_sessions SET proved_at = NULL"))
        page.goto(f"{office.system.url}/profile?section=security")
        page.get_by_role("button", name="Unlink").click()
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_label("Password")).to_have_count(0)
        dialog.get_by_role("button", name="Confirm with Corp").click()
        # It knows her, and asks all the same.
        log_in_there(page, "petra")
        expect(page.get_by_text("Confirmed. You can go on now.")).to_be_visible()
        page.get_by_role("button", name="Unlink").click()
        page.get_by_role("dialog").get_by_role("button", name="Unlink").click()
        expect(page.get_by_role("dialog").get_by_text("This is your only way in.")).to_be_visible()
        idle(page)
