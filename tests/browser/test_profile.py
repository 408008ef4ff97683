"""The Profile page in real browsers: sessions that end elsewhere, the theme, the account's end."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Page, expect

from papita_core.actors import Actor
from papita_core.users.service import NewUser
from tests.browser.people import (
    SECONDS,
    expect_dashboard,
    expect_door,
    idle,
    let_in,
    open_context,
    session_cookie,
    sign_in,
    tab_to,
)
from tests.system import PASSWORD, System

NEW = "meadows hum at dusk"


@pytest.fixture(scope="module")
def people(system: System) -> System:
    with system.papita() as papita:
        for name, role in (
            ("root", "administrator"),
            *((name, "member") for name in ("ana", "ben", "cleo", "dora", "eve")),
        ):
            new = NewUser(name, PASSWORD, name.title(), role=role)
            papita.users.create(Actor.operator(), new)
    return system


def arrive(context: BrowserContext, system: System, name: str, path: str = "") -> Page:
    """A fresh sign-in of this user, and the page that was asked for."""
    let_in(context, system, name)
    page = context.new_page()
    page.goto(f"{system.url}/{path}")
    expect(page.get_by_role("button", name="Log out")).to_be_visible(timeout=40 * SECONDS)
    return page


@pytest.fixture
def two(browser: Browser) -> Iterator[tuple[BrowserContext, BrowserContext]]:
    contexts = open_context(browser), open_context(browser)
    yield contexts
    for context in contexts:
        context.close()


def test_signing_out_everywhere_empties_a_second_browser_within_ten_seconds(
    people: System, two: tuple[BrowserContext, BrowserContext]
) -> None:
    other = arrive(two[1], people, "ana")
    page = arrive(two[0], people, "ana", "profile?section=sessions")
    page.get_by_role("button", name="Sign out everywhere else").click()
    begun = time.monotonic()
    expect_door(other)
    assert time.monotonic() - begun < 10
    expect(page.get_by_text("1 session ended.")).to_be_visible()
    expect(page.get_by_text("This session")).to_be_visible()


def test_a_new_password_logs_the_other_browser_out_and_keeps_this_one_with_another_cookie(
    people: System, two: tuple[BrowserContext, BrowserContext]
) -> None:
    other = arrive(two[1], people, "ben")
    page = arrive(two[0], people, "ben", "profile?section=security")
    before = session_cookie(two[0])
    page.get_by_role("button", name="Change password").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("New password", exact=True).fill("password123")
    expect(dialog.get_by_text("Very weak")).to_be_visible()
    dialog.get_by_label("New password", exact=True).fill(NEW)
    expect(dialog.get_by_text("Strong")).to_be_visible()
    dialog.get_by_label("New password again").fill(NEW)
    dialog.get_by_label("New password again").press("Tab")
    dialog.get_by_role("button", name="Save password").click()
    expect(dialog).to_have_count(0)
    expect_door(other)
    expect(page.get_by_role("button", name="Change password")).to_be_visible()
    for _ in range(100):
        after = session_cookie(two[0])
        if after and before and after["value"] != before["value"]:
            break
        page.wait_for_timeout(50)
    assert before is not None
    assert after is not None
    assert after["value"] != before["value"]
    page.reload()
    expect(page.get_by_role("button", name="Change password")).to_be_visible()
    replayed = {"Cookie": f"papita_session={before['value']}"}
    api = f"{people.url}/api/credentials"
    assert requests.get(api, headers=replayed, timeout=10).status_code == 401
    sign_in(other, "ben", NEW)
    expect_dashboard(other)


def background(page: Page) -> int:
    """How bright the page is, 0 to 765."""
    script = "getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor"
    parts = page.evaluate(script)
    return sum(int(part) for part in parts[parts.index("(") + 1 : -1].split(",")[:3])


def test_theme_and_time_zone_go_with_the_user_to_every_page_and_browser(
    people: System, two: tuple[BrowserContext, BrowserContext]
) -> None:
    page = arrive(two[0], people, "cleo", "profile")
    assert background(page) > 600
    page.get_by_role("radio", name="Dark").click()
    page.wait_for_function(
        "() => { const app = document.querySelector('[data-testid=stApp]');"
        " return app && getComputedStyle(app).backgroundColor === 'rgb(26, 22, 19)' }"
    )
    zone = page.get_by_role("combobox", name="Time zone")
    zone.click()
    zone.fill("Auckland")
    page.get_by_role("option", name="Pacific/Auckland").click()
    idle(page)
    page.goto(f"{people.url}/connected-apps")
    expect(page.get_by_role("heading", name="Connected apps")).to_be_visible()
    assert background(page) < 150
    other = arrive(two[1], people, "cleo", "profile?section=activity")
    other.wait_for_function(
        "() => { const app = document.querySelector('[data-testid=stApp]');"
        " return app && getComputedStyle(app).backgroundColor === 'rgb(26, 22, 19)' }"
    )
    with people.papita() as papita:
        user = papita.users.by_username("cleo")
        assert user is not None
        assert papita.sessions.of_user(user.id)[0].appearance.zone == "Pacific/Auckland"


def test_the_data_come_as_one_archive_with_the_chats(people: System, browser: Browser) -> None:
    context = open_context(browser)
    page = arrive(context, people, "dora", "profile?section=data")
    chats = {"Authorization": f"Bearer {people.user_token('dora')}"}
    made = f"{people.alchat_url}/api/conversations"
    assert requests.post(made, json={"title": "Dora's"}, headers=chats, timeout=10).ok
    page.get_by_role("button", name="Download my data").click()
    with page.expect_download(timeout=60 * SECONDS) as download:
        page.get_by_role("dialog").get_by_role("button", name="Save ZIP").click()
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    with zipfile.ZipFile(download.value.path()) as found:
        account = json.loads(found.read("account.json"))
        with zipfile.ZipFile(io.BytesIO(found.read("al-chat.zip"))) as exported:
            assert any("Dora" in exported.read(name).decode() for name in exported.namelist())
    assert account["account"]["username"] == "dora"
    # With AL-Chat there, the end of the account is the end of the chats.
    delete(page, "dora")
    expect(page.get_by_text("AL-Chat has deleted your conversations")).to_be_visible()
    assert requests.get(made, headers=chats, timeout=10).json()["conversations"] == []
    context.close()


def delete(page: Page, name: str) -> None:
    page.get_by_role("button", name="Delete my account").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("User name").fill(name)
    dialog.get_by_role("button", name="Delete for good").click()
    expect_door(page)


def test_while_al_chat_is_away_it_is_told_when_it_comes_back(
    browser: Browser, tmp_path: Path
) -> None:
    with System(tmp_path, alchat=True) as system:
        with system.papita() as papita:
            for name, role in (("root", "administrator"), ("fay", "member")):
                papita.users.create(Actor.operator(), NewUser(name, PASSWORD, role=role))
        chats = {"Authorization": f"Bearer {system.user_token('fay')}"}
        made = f"{system.alchat_url}/api/conversations"
        assert requests.post(made, json={"title": "Fay's"}, headers=chats, timeout=10).ok
        system.stop("alchat")
        context = open_context(browser)
        delete(arrive(context, system, "fay", "profile?section=data"), "fay")
        expect(context.pages[0].get_by_text("it deletes your conversations")).to_be_visible()
        context.close()
        system.start_alchat()
        end = time.monotonic() + 30
        while requests.get(made, headers=chats, timeout=10).json()["conversations"]:
            assert time.monotonic() < end
            time.sleep(0.2)


def test_an_account_is_deleted_by_keyboard_alone(people: System, browser: Browser) -> None:
    """From the door to the door, with nothing but keys."""
    context = open_context(browser)
    page = context.new_page()
    page.goto(f"{people.url}/profile?section=data")
    expect(page.get_by_label("Username")).to_be_visible()
    tab_to(page, "Username")
    page.keyboard.type("eve")
    tab_to(page, "Password")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Delete my account")).to_be_visible()
    tab_to(page, "Delete my account")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_label("User name")).to_be_visible()
    tab_to(page, "User name")
    page.keyboard.type("eve")
    tab_to(page, "Delete for good")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Your account is deleted.")).to_be_visible(timeout=20 * SECONDS)
    sign_in(page, "eve")
    expect(page.get_by_text("is not right")).to_be_visible()
    context.close()
