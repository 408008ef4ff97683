"""Passkeys, codes of an app and recovery codes, in a real browser with a virtual authenticator."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyotp
import pytest
from playwright.sync_api import Browser, Page, expect

from papita_core.actors import Actor
from papita_core.audit.service import AuditFilter
from tests.browser.authenticators import VirtualAuthenticator, code, steady
from tests.browser.people import (
    SECONDS,
    cookie_is_set,
    expect_dashboard,
    expect_door,
    idle,
    open_context,
    session_cookie,
    sign_in,
)
from tests.system import PASSWORD, System

OPERATOR = Actor.operator()
SECURITY = "profile?section=security"
REFUSED = "This passkey was not accepted."


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A browser of its own for each test: what one has signed in is not signed in for the next."""
    context = open_context(browser)
    yield context.new_page()
    context.close()


def arrive(page: Page, system: System, name: str, path: str = "") -> None:
    """A new user at the door, signing in with the password, then on a page."""
    system.add_user(name)
    page.goto(f"{system.url}/{path}")
    sign_in(page, name)
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    cookie_is_set(page)


def log_out(page: Page, system: System) -> None:
    page.get_by_role("button", name="Log out").click()
    expect_door(page)
    page.goto(system.url)
    expect_door(page)


def keep_codes(page: Page) -> list[str]:
    """The ten codes that stand on the screen, which is then gone on from."""
    codes = page.get_by_role("list", name="Recovery codes").get_by_role("listitem")
    expect(codes).to_have_count(10)
    texts = codes.all_inner_texts()
    page.get_by_role("button", name="I have kept them").click()
    expect(codes).to_have_count(0)
    return texts


def add_passkey(page: Page, name: str = "") -> None:
    page.get_by_role("button", name="Add passkey").click()
    dialog = page.get_by_role("dialog")
    if name:
        dialog.get_by_label("Name").fill(name)
        dialog.get_by_label("Name").press("Tab")
        idle(page)
    dialog.get_by_role("button", name="Create passkey").click()


def set_up_app(page: Page, button: str = "Set up app") -> pyotp.TOTP:
    """Reads the key from the page and shows the first code, that of the step before."""
    page.get_by_role("button", name=button).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_alt_text("QR code for the authenticator app")).to_be_visible()
    totp = pyotp.TOTP(dialog.locator("code").inner_text().replace(" ", ""))
    dialog.get_by_label("Code").fill(code(totp, steady(page), -1))
    dialog.get_by_role("button", name="Switch on").click()
    return totp


def show_code(page: Page, value: str) -> None:
    page.get_by_label("Code", exact=True).fill(value)
    page.get_by_role("button", name="Continue").click()


def show_recovery_code(page: Page, value: str) -> None:
    page.get_by_label("Recovery code").fill(value)
    page.get_by_role("button", name="Continue").click()


def actions(system: System, name: str) -> list[str]:
    """What the audit log says of a user, the newest first."""
    with system.papita() as papita:
        user_id = papita.audit.user_id(OPERATOR, name)
        found = papita.audit.entries(OPERATOR, AuditFilter(owner_id=user_id)).items
    return [entry.event.action for entry in found]


def second_factor(system: System, name: str) -> list[tuple[str, str | None]]:
    """How the sessions of a user began, the one seen last first."""
    with system.papita() as papita:
        user = papita.users.by_username(name)
        assert user is not None
        found = papita.sessions.of_user(user.id)
    return [(session.method, session.second_factor) for session in found]


def test_a_passkey_from_the_profile_to_the_door(page: Page, system: System) -> None:
    key = VirtualAuthenticator(page)
    arrive(page, system, "ana", SECURITY)
    add_passkey(page, "Work laptop")
    keep_codes(page)
    expect(page.get_by_text("Work laptop")).to_be_visible()
    assert len(key.credentials()) == 1

    # Without a name and without a password, by the keyboard alone; kept signed in, if one likes.
    log_out(page, system)
    page.get_by_role("checkbox", name="Keep me signed in").focus()
    page.keyboard.press("Space")
    button = page.get_by_role("button", name="Sign in with a passkey")
    button.focus()
    page.keyboard.press("Enter")
    expect_dashboard(page)
    cookie_is_set(page)
    cookie = session_cookie(page.context)
    assert cookie is not None
    assert float(str(cookie["expires"])) > time.time() + 13 * 86400
    assert second_factor(system, "ana") == [("passkey", "passkey")]
    page.reload()
    expect_dashboard(page)

    # As second factor after the password.
    log_out(page, system)
    sign_in(page, "ana")
    expect(page.get_by_role("heading", name="One more step")).to_be_visible()
    assert second_factor(system, "ana") == []
    page.get_by_role("button", name="Use a passkey").click()
    expect_dashboard(page)
    assert second_factor(system, "ana") == [("password", "passkey")]

    # In place of the password, before what a stranger at an open tab must not do.
    page.goto(f"{system.url}/{SECURITY}")
    expect(page.get_by_role("button", name="Rename")).to_be_visible()
    with system.papita() as papita, papita.database.write() as session:
        session.connection().exec_driver_sql("UPDATE sign_in_sessions SET proved_at = NULL")
    page.get_by_role("button", name="Rename").click()
    expect(page.get_by_role("heading", name="Confirm that it is you")).to_be_visible()
    page.get_by_role("dialog").get_by_role("button", name="Use a passkey").click()
    dialog = page.get_by_role("dialog", name="Rename passkey")
    dialog.get_by_label("Name").fill("Old laptop")
    dialog.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Old laptop", exact=True)).to_be_visible()

    page.get_by_role("button", name="Remove").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.get_by_text("Old laptop", exact=True)).to_have_count(0)
    # The browser still has it; Papita no longer takes it, and says no more than that.
    log_out(page, system)
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page.get_by_text(REFUSED)).to_be_visible()


def test_whoever_does_not_show_it_hears_why_and_may_try_again(page: Page, system: System) -> None:
    key = VirtualAuthenticator(page)
    arrive(page, system, "ben", SECURITY)
    key.verified(False)
    add_passkey(page)
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("No passkey was made. You can try again.")).to_be_visible()
    key.verified(True)
    dialog.get_by_role("button", name="Create passkey").click()
    keep_codes(page)
    log_out(page, system)
    key.verified(False)
    button = page.get_by_role("button", name="Sign in with a passkey")
    button.click()
    expect(page.get_by_text("No passkey was shown.")).to_be_visible()
    expect(button).to_be_enabled()
    sent: list[object] = []
    page.on("websocket", lambda socket: socket.on("framesent", sent.append))
    page.wait_for_timeout(1 * SECONDS)
    assert sent == []
    key.verified(True)
    button.click()
    expect_dashboard(page)


def test_a_device_that_has_one_already_makes_no_other(page: Page, system: System) -> None:
    VirtualAuthenticator(page)
    arrive(page, system, "eli", SECURITY)
    add_passkey(page)
    keep_codes(page)
    add_passkey(page)
    expect(page.get_by_text("This device has a passkey of yours")).to_be_visible()
    assert actions(system, "eli").count("factor.added") == 1


def test_a_copy_is_noticed_and_shown(page: Page, system: System) -> None:
    key = VirtualAuthenticator(page)
    arrive(page, system, "cleo", SECURITY)
    add_passkey(page)
    keep_codes(page)
    copy = key.credentials()[0]
    log_out(page, system)
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect_dashboard(page)
    log_out(page, system)
    key.hold(copy | {"signCount": 0})
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page.get_by_text(REFUSED)).to_be_visible()
    assert actions(system, "cleo")[:2] == ["factor.refused", "passkey.cloned"]
    # Its owner, whose counter is ahead, gets in and is told.
    key.hold(copy | {"signCount": 50})
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect_dashboard(page)
    page.goto(f"{system.url}/{SECURITY}")
    expect(page.get_by_text("There seems to be a copy of this passkey")).to_be_visible()
    # Nothing is sent again by itself.
    page.wait_for_timeout(1 * SECONDS)
    assert actions(system, "cleo").count("passkey.cloned") == 1


def test_an_answer_that_another_site_got_is_refused(page: Page, system: System) -> None:
    """A page at another origin of this host puts the portal's own question to the passkey, which
    answers it there, and hands the answer on to the portal.
    """
    key = VirtualAuthenticator(page)
    arrive(page, system, "dora", SECURITY)
    add_passkey(page)
    keep_codes(page)
    log_out(page, system)

    elsewhere = page.context.new_page()
    elsewhere.route("**/*", lambda route: route.fulfill(body="<p>", content_type="text/html"))
    elsewhere.goto("http://localhost:9/")
    thief = VirtualAuthenticator(elsewhere)
    thief.hold(key.credentials()[0] | {"signCount": 50})

    def relay(options: str) -> Any:
        return elsewhere.evaluate(
            """async text => {
              const bytes = part => Uint8Array.from(atob(part), sign => sign.charCodeAt(0))
              const found = await navigator.credentials.get({
                publicKey: { ...JSON.parse(text), challenge: bytes(JSON.parse(text).challenge) },
              })
              const spell = part => btoa(String.fromCharCode(...new Uint8Array(part)))
              const { clientDataJSON, authenticatorData, signature, userHandle } = found.response
              return {
                id: found.id, rawId: spell(found.rawId), type: found.type,
                response: [clientDataJSON, authenticatorData, signature, userHandle].map(spell),
              }
            }""",
            options,
        )

    page.expose_function("relay", relay)
    page.evaluate(
        """() => {
          const bytes = part => Uint8Array.from(atob(part), sign => sign.charCodeAt(0)).buffer
          navigator.credentials.get = async ({ publicKey }) => {
            const challenge = btoa(String.fromCharCode(...publicKey.challenge))
            const found = await relay(JSON.stringify({ ...publicKey, challenge }))
            const [clientDataJSON, authenticatorData, signature, userHandle] =
              found.response.map(bytes)
            return {
              ...found, rawId: bytes(found.rawId),
              response: { clientDataJSON, authenticatorData, signature, userHandle },
            }
          }
        }"""
    )
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page.get_by_text(REFUSED)).to_be_visible()
    assert actions(system, "dora")[0] == "factor.refused"
    # The passkey itself is good: the same from the portal's own page.
    page.reload()
    expect_door(page)
    key.hold(key.credentials()[0] | {"signCount": 90})
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect_dashboard(page)


def test_at_an_address_where_passkeys_do_not_work_the_page_says_so(
    page: Page, system: System
) -> None:
    page.goto(system.url.replace("localhost", "127.0.0.1"))
    expect_door(page)
    expect(page.get_by_text(f"Passkeys work at {system.url} alone")).to_be_visible()
    expect(page.get_by_role("button", name="Sign in with a passkey")).to_be_disabled()


def test_codes_of_an_app_and_recovery_codes(page: Page, system: System) -> None:
    arrive(page, system, "finn", SECURITY)
    totp = set_up_app(page)
    codes = keep_codes(page)
    expect(page.get_by_text("On since just now.")).to_be_visible()
    expect(page.get_by_text("10 of 10 are left.")).to_be_visible()

    log_out(page, system)
    sign_in(page, "finn")
    field = page.get_by_label("Code", exact=True)
    expect(field).to_have_attribute("autocomplete", "one-time-code")
    expect(field).to_have_attribute("inputmode", "numeric")
    now = steady(page)
    show_code(page, "000000" if code(totp, now) != "000000" else "000001")
    expect(page.get_by_text("This code is not right, or it was used already.")).to_be_visible()
    show_code(page, code(totp, now))
    expect_dashboard(page)
    assert second_factor(system, "finn") == [("password", "totp")]

    # The same code once more, as somebody who looked over a shoulder has it.
    log_out(page, system)
    sign_in(page, "finn")
    show_code(page, code(totp, now))
    expect(page.get_by_text("This code is not right, or it was used already.")).to_be_visible()
    assert second_factor(system, "finn") == []

    page.get_by_role("button", name="Back").click()
    for value in (codes[0], codes[1].lower()):
        expect_door(page)
        sign_in(page, "finn")
        page.get_by_role("button", name="Use a recovery code").click()
        if value != codes[0]:
            show_recovery_code(page, codes[0])
            expect(page.get_by_text("This recovery code is not right")).to_be_visible()
        show_recovery_code(page, value)
        expect_dashboard(page)
        if value == codes[0]:
            log_out(page, system)
    page.goto(f"{system.url}/{SECURITY}")
    expect(page.get_by_text("8 of 10 are left.")).to_be_visible()
    assert {*actions(system, "finn")} >= {"factor.added", "factor.refused", "recovery.used"}


def test_recovery_codes_can_be_saved(page: Page, system: System, tmp_path: Path) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=system.url)
    VirtualAuthenticator(page)
    arrive(page, system, "gus", SECURITY)
    add_passkey(page)
    codes = page.get_by_role("list", name="Recovery codes").get_by_role("listitem")
    expect(codes).to_have_count(10)
    wanted = codes.all_inner_texts()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as text").click()
    assert download.value.suggested_filename == "papita-recovery-codes-gus.txt"
    download.value.save_as(tmp_path / "codes")
    saved = (tmp_path / "codes").read_text("utf-8")
    assert saved.startswith(f"Recovery codes of gus for {system.url}")
    assert saved.split("\n")[3:13] == wanted
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").split() == wanted


@pytest.fixture
def required(system: System) -> Iterator[None]:
    def decide(value: str) -> None:
        with system.papita() as papita:
            papita.policies.put(OPERATOR, "second-factor", value)

    decide("everybody")
    yield
    decide("nobody")


@pytest.mark.usefixtures("required")
def test_a_required_factor_is_set_up_before_anything_else(page: Page, system: System) -> None:
    VirtualAuthenticator(page)
    system.add_user("hana")
    page.goto(f"{system.url}/credentials")
    sign_in(page, "hana")
    for path in ("credentials", SECURITY, "al-chat", ""):
        if path != "credentials":
            cookie_is_set(page)
            page.goto(f"{system.url}/{path}")
        expect(page.get_by_role("heading", name="Set up a second factor")).to_be_visible()
        expect(page.get_by_role("link", name="Dashboard")).to_have_count(0)
    page.goto(f"{system.url}/{SECURITY}")
    add_passkey(page)
    keep_codes(page)
    expect(page.get_by_role("heading", name="Profile")).to_be_visible()
    assert second_factor(system, "hana") == [("password", "passkey")]
    # The last one cannot be removed.
    page.get_by_role("button", name="Remove").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Remove").click()
    expect(dialog.get_by_text("A second factor is required of you.")).to_be_visible()


@pytest.mark.usefixtures("required")
def test_a_required_factor_can_be_an_app(page: Page, system: System) -> None:
    system.add_user("ivo")
    page.goto(system.url)
    sign_in(page, "ivo")
    set_up_app(page)
    keep_codes(page)
    expect_dashboard(page)
    assert second_factor(system, "ivo") == [("password", "totp")]


def test_a_session_of_before_shows_the_factor_that_is_there(page: Page, system: System) -> None:
    """Whoever holds a session that began with the password adds no factor of their own to it."""
    arrive(page, system, "jana")
    with system.papita() as papita:
        user = papita.users.by_username("jana")
        assert user is not None
        other = Actor.for_session(papita.sessions.start(user.id).session)
        totp = pyotp.TOTP(papita.totp.begin(other).secret)
        now = steady(page)
        papita.totp.confirm(other, code(totp, now, -1))
        papita.policies.put(OPERATOR, "second-factor", "everybody")
    try:
        page.goto(system.url)
        expect(page.get_by_role("heading", name="Show your second factor")).to_be_visible()
        show_code(page, code(totp, now))
        expect_dashboard(page)
    finally:
        with system.papita() as papita:
            papita.policies.put(OPERATOR, "second-factor", "nobody")


def test_nothing_of_it_is_in_what_the_portal_wrote(system: System) -> None:
    written = system.output()
    for value in (PASSWORD, "otpauth:"):
        assert value not in written
