"""The whole way on the running system: set up, store a key, open AL-Chat, chat.

The six steps of the integration plan's "Testing Workflow" are the six tests of this file, in their
order, on one system and in one browser; each goes on where the one before it ended. Portal, AL-Chat
and provider are processes of their own.
"""

from __future__ import annotations

import base64
import re
import time
from urllib.parse import quote

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Page, expect

from portal.navigation import PAGES
from tests.browser.people import (
    SECONDS,
    add_key,
    answers,
    ask,
    choose_model,
    composer,
    cookie_is_set,
    expect_dashboard,
    expect_door,
    open_al_chat,
    open_context,
    session_cookie,
    set_up,
    sign_in,
    written,
)
from tests.system import KEY, PASSWORD, System


@pytest.fixture(scope="module")
def page(context: BrowserContext) -> Page:
    return context.new_page()


def test_step_1_set_up_the_database_and_the_administrator(page: Page, system: System) -> None:
    """The portal has migrated its database; the link that the terminal showed last, and only that
    one, makes the first administrator.
    """
    assert (system.folder / "data" / "papita.db").exists()
    of_before = system.setup_code()
    system.stop("portal")
    system.start_portal()
    assert system.setup_code(other_than=of_before) != of_before
    page.goto(f"{system.url}/?setup={of_before}")
    page.get_by_label("Username").fill("eve")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password again").fill(PASSWORD)
    page.get_by_role("button", name="Create administrator").click()
    expect(page.get_by_text("This set-up code is wrong")).to_be_visible()
    set_up(page, system)
    cookie_is_set(page)
    cookie = session_cookie(page.context)
    assert cookie is not None
    assert cookie["httpOnly"] is True
    assert cookie["sameSite"] == "Lax"

    page.reload()
    expect_dashboard(page)

    page.get_by_role("button", name="Log out").click()
    expect_door(page)
    expect(page.get_by_test_id("stSidebar")).to_have_count(0)
    sign_in(page, password="not the password")
    expect(page.get_by_text("The user name or the password is not right.")).to_be_visible()
    sign_in(page)
    expect_dashboard(page)
    cookie_is_set(page)
    page.reload()
    expect_dashboard(page)

    resume = page.locator(".st-key-dashboard_ai-resume")
    expect(resume.get_by_role("heading", name="AI Resume")).to_be_visible()
    expect(resume).to_contain_text("This project is not installed")
    chat = page.locator(".st-key-dashboard_al-chat")
    expect(chat).to_contain_text("It has no key to use yet.")


def test_step_2_store_credentials(page: Page, system: System) -> None:
    page.goto(f"{system.url}/credentials")
    page.get_by_role("button", name="Add credential").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Base URL")).to_have_value("https://api.openai.com/v1")
    expect(dialog.get_by_label("Type")).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)

    add_key(page, system, label="Wrong key", key="sk-wrong-0123456789abcdef")
    card = page.locator('[class*="st-key-credentials_"]').filter(has_text="Wrong key").first
    card.get_by_role("button", name="Test").click()
    expect(card.get_by_text("rejects the key")).to_be_visible()

    card.get_by_role("button", name="Replace").click()
    dialog.get_by_label("Label").fill("My key")
    dialog.get_by_label("API key", exact=True).fill(KEY)
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)
    card = page.locator('[class*="st-key-credentials_"]').filter(has_text="My key").first
    expect(card).to_contain_text(f"••••{KEY[-4:]}")
    card.get_by_role("button", name="Test").click()
    expect(card.get_by_text("accepts the key")).to_be_visible()

    add_key(page, system, label="One too many", key="sk-demo-to-be-deleted-00")
    card = page.locator('[class*="st-key-credentials_"]').filter(has_text="One too many").first
    card.get_by_role("button", name="Delete").click()
    dialog.get_by_role("button", name="Delete").click()
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("heading", name="One too many")).to_have_count(0)

    page.reload()
    expect(page.get_by_role("heading", name="My key")).to_be_visible()
    assert KEY not in page.content()


def test_step_3_al_chat_fetches_credentials_from_the_api(page: Page, system: System) -> None:
    """The plan's own client code, with the exchanged token in its header, gets the key."""
    token = project_token(system, "ana")

    def get_openai_key(username: str, headers: dict[str, str]) -> str | None:
        response = requests.get(
            f"{system.url}/api/credentials",
            params={"username": username, "credentialType": "openai", "projectId": "al-chat"},
            headers=headers,
            timeout=10,
        )
        statuses.append(response.status_code)
        if response.status_code == 200:
            data = response.json()
            key: str | None = data["credentials"]["credentials"].get("api_key")
            return key
        assert KEY not in response.text
        return None

    statuses: list[int] = []
    assert get_openai_key("ana", {"Authorization": f"Bearer {token}"}) == KEY
    assert get_openai_key("ana", {}) is None
    system.add_user("bruno")
    assert get_openai_key("bruno", {"Authorization": f"Bearer {token}"}) is None
    user_token = launch(system, "ana")
    assert get_openai_key("ana", {"Authorization": f"Bearer {user_token}"}) is None
    assert statuses == [200, 401, 404, 401]


def test_step_4_both_services_are_up(system: System) -> None:
    """The launch above has started AL-Chat; both say that they are ready."""
    for url in (system.url, system.alchat_url):
        assert requests.get(f"{url}/healthz", timeout=10).status_code == 200
        assert requests.get(f"{url}/readyz", timeout=10).status_code == 200


def test_step_4_a_script_can_chat(system: System) -> None:
    """With a personal access token: launch, send, follow."""
    headers = {"Authorization": f"Bearer {launch(system, 'ana')}"}
    api = f"{system.alchat_url}/api"
    made = requests.post(f"{api}/conversations", json={}, headers=headers, timeout=10)
    conversation = made.json()["id"]
    sent = requests.post(
        f"{api}/conversations/{conversation}/messages",
        json={"content": "Say it back", "model": "echo"},
        headers=headers,
        timeout=10,
    )
    assert sent.status_code == 202, sent.text
    run = sent.json()["runId"]
    events = requests.get(f"{api}/runs/{run}/events", headers=headers, timeout=30).text
    assert "Say it back" in events
    assert "event: run.completed" in events
    gone = requests.delete(f"{api}/conversations/{conversation}", headers=headers, timeout=10)
    assert gone.status_code == 204


def test_step_5_launch_al_chat_from_the_dashboard(page: Page, system: System) -> None:
    page.goto(system.url)
    chat = page.locator(".st-key-dashboard_al-chat")
    expect(chat).to_contain_text("Running")
    page.get_by_role("button", name="Open AL-Chat").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Not now").click()
    expect(dialog).to_have_count(0)
    expect(page).to_have_url(re.compile(r"/$"))
    open_al_chat(page, system, consent=True)
    expect(page).to_have_url(re.compile("/al-chat"))
    # Asked once: the second time it opens at once.
    open_al_chat(page, system, consent=False)


def test_step_6_chat(page: Page, system: System) -> None:
    choose_model(page, "demo-fast")
    ask(page, "What is a potato?")
    expect(answers(page).nth(1)).to_contain_text("What I noticed in your message")
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    expect(answers(page)).to_have_count(2)
    address = page.url

    # The conversation is kept and can be found again.
    page.get_by_role("button", name="New chat").click()
    expect(answers(page)).to_have_count(0)
    page.get_by_role("button", name="What is a potato?", exact=True).click()
    expect(answers(page)).to_have_count(2)
    assert page.url == address

    # Reload in the middle of an answer: it is still being written, and complete at the end.
    page.get_by_role("button", name="New chat").click()
    choose_model(page, "stream-600-20")
    ask(page, "A long one, please.")
    words = expected_words("stream-600-20")
    expect(answers(page).nth(1)).to_contain_text(" ".join(words[:20]))
    page.reload()
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    expect(answers(page).nth(1)).to_contain_text(" ".join(words[-5:]), timeout=30 * SECONDS)
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    assert written(page, 1) == words
    expect(composer(page)).to_be_enabled()

    # Stop: the answer ends, and so does the provider's stream.
    page.get_by_role("button", name="New chat").click()
    choose_model(page, "stream-3000-20")
    ask(page, "Too long.")
    expect(answers(page).nth(1)).to_contain_text(" ".join(words[:10]))
    assert system.provider_requests()["open"] == 1
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    end = time.monotonic() + 2
    while system.provider_requests()["open"] and time.monotonic() < end:
        time.sleep(0.05)
    assert system.provider_requests()["open"] == 0
    kept = answers(page).nth(1).inner_text()
    page.wait_for_timeout(500)
    assert answers(page).nth(1).inner_text() == kept
    page.reload()
    expect(answers(page).nth(1)).to_contain_text(" ".join(words[:10]))


def test_the_old_cookie_opens_nothing_after_log_out(
    page: Page, system: System, browser: Browser
) -> None:
    cookie = session_cookie(page.context)
    assert cookie is not None
    other_tab = page.context.new_page()
    other_tab.goto(system.url)
    expect_dashboard(other_tab)
    page.get_by_role("button", name="Log out").click()
    expect_door(page)
    # The other tab is shown the door without a click.
    expect_door(other_tab)
    other_tab.close()

    thief = open_context(browser)
    thief.add_cookies(
        [{"name": "papita_session", "value": str(cookie["value"]), "url": system.url}]
    )
    stolen = thief.new_page()
    stolen.goto(system.url)
    expect_door(stolen)
    thief.close()
    answer = requests.get(
        f"{system.url}/api/credentials",
        cookies={"papita_session": str(cookie["value"])},
        timeout=10,
    )
    assert answer.status_code == 401


def test_the_key_is_nowhere(page: Page, system: System) -> None:
    """Not in a database file, WAL, log or page, in clear or in a form that one sees often."""
    sign_in(page)
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    cookie_is_set(page)
    for entry in PAGES:
        page.goto(f"{system.url}/{entry.path}")
        expect(page.get_by_role("button", name="Log out")).to_be_visible()
        page.wait_for_timeout(300)
        assert KEY not in page.content()
    forms = {
        form.encode()
        for form in (
            KEY,
            KEY[8:],
            quote(KEY, safe=""),
            KEY.encode().hex(),
            *(base64.b64encode(b"x" * shift + KEY.encode()).decode()[4:-4] for shift in range(3)),
        )
    }
    files = [path for path in system.folder.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"papita.db", "alchat.db", "portal.log", "al-chat.log"} <= names
    for path in files:
        held = path.read_bytes()
        assert not [form for form in forms if form in held], path.name
    assert PASSWORD.encode() not in b"".join(path.read_bytes() for path in files)


def test_the_api_can_be_read_without_internet(page: Page, system: System) -> None:
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(f"{system.url}/api/docs")
    expect(page.get_by_text("Store a credential")).to_be_visible()
    assert refused == []


def test_the_loan_is_on_the_record(system: System) -> None:
    assert system.cli("audit", "verify").startswith("ok\t")


def launch(system: System, username: str) -> str:
    """The user token that a script gets with a personal access token."""
    answer = requests.post(
        f"{system.url}/api/projects/al-chat/launch",
        headers={"Authorization": f"Bearer {system.access_token(username)}"},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    token: str = answer.json()["token"]
    return token


def project_token(system: System, username: str) -> str:
    """What AL-Chat gets for a user token, with its own client secret."""
    secret = (system.folder / "keys" / "alchat-client-secret").read_text().strip()
    answer = requests.post(
        f"{system.url}/api/token",
        auth=("al-chat", secret),
        data={
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": launch(system, username),
            "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "scope": "credential:use",
            "credential_type": "openai",
        },
        timeout=10,
    )
    assert answer.status_code == 200, answer.text
    token: str = answer.json()["access_token"]
    return token


def expected_words(model: str) -> list[str]:
    from demo.provider.scripts import script_for

    return script_for(model).text.split()
