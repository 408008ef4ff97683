"""What a person does in the browser, by the names that are on the screen."""

from __future__ import annotations

from playwright.sync_api import Browser, BrowserContext, Page, expect

from papita_core.actors import Actor
from papita_core.users.service import NewUser
from papita_core.vault.service import NewCredential
from tests.system import KEY, PASSWORD, System

SECONDS = 1000


def open_context(browser: Browser, *, width: int = 1280, dark: bool = False) -> BrowserContext:
    context = browser.new_context(
        viewport={"width": width, "height": 860},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
    )
    context.set_default_timeout(20 * SECONDS)
    return context


def set_up(page: Page, system: System, name: str = "ana") -> None:
    """Creates the first administrator with the link of the terminal."""
    page.goto(f"{system.url}/?setup={system.setup_code()}")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Display name").fill("Ana")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password again").fill(PASSWORD)
    page.get_by_role("button", name="Create administrator").click()
    expect_dashboard(page)


def arrive(context: BrowserContext, system: System, name: str = "ana", *, key: bool = True) -> Page:
    """A new administrator on the chat page, signed in: with a key that AL-Chat may use, or without.

    What set_up, add_key and open_al_chat do in the browser is done in Papita here, which is sooner.
    """
    with system.papita() as papita:
        user = papita.users.create(
            Actor.operator(), NewUser(name, PASSWORD, name.title(), role="administrator")
        )
        handle, session = papita.sessions.redeem(papita.sessions.start(user.id).ticket)
        who = Actor.for_session(session)
        papita.grants.allow(who, "al-chat")
        if key:
            base_url = f"{system.provider_url}/v1"
            papita.credentials.create(
                who, NewCredential("openai", {"api_key": KEY}, label="My key", base_url=base_url)
            )
    context.add_cookies([{"name": "papita_session", "value": handle, "url": system.url}])
    page = context.new_page()
    page.goto(f"{system.url}/al-chat")
    expect(composer(page)).to_be_visible(timeout=40 * SECONDS)
    return page


def let_in(context: BrowserContext, system: System, name: str) -> None:
    """A fresh sign-in of this user, whose cookie the browser has."""
    with system.papita() as papita:
        user = papita.users.by_username(name)
        assert user is not None
        handle, _ = papita.sessions.redeem(papita.sessions.start(user.id).ticket)
    context.add_cookies([{"name": "papita_session", "value": handle, "url": system.url}])


def sign_in(page: Page, name: str = "ana", password: str = PASSWORD) -> None:
    """Fills in the form that the page shows."""
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Log in").click()


def expect_door(page: Page) -> None:
    expect(page.get_by_role("button", name="Log in")).to_be_visible(timeout=20 * SECONDS)


def expect_dashboard(page: Page) -> None:
    expect(page.get_by_role("heading", name="AL-Chat")).to_be_visible(timeout=20 * SECONDS)


def cookie_is_set(page: Page) -> None:
    """Waits until the browser has traded its ticket for the session cookie."""
    for _ in range(100):
        if session_cookie(page.context) is not None:
            return
        page.wait_for_timeout(50)
    raise AssertionError("the browser got no session cookie")


def session_cookie(context: BrowserContext) -> dict[str, object] | None:
    for cookie in context.cookies():
        if cookie.get("name") == "papita_session" and cookie.get("value"):
            return dict(cookie)
    return None


def add_key(
    page: Page, system: System, *, label: str = "My key", key: str = KEY, base_url: str = ""
) -> None:
    page.goto(f"{system.url}/credentials")
    page.get_by_role("button", name="Add credential").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Label").fill(label)
    dialog.get_by_label("API key", exact=True).fill(key)
    dialog.get_by_label("Base URL").fill(base_url or f"{system.provider_url}/v1")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("heading", name=label)).to_be_visible()


def open_al_chat(page: Page, system: System, *, consent: bool) -> None:
    """From the dashboard to the chat page."""
    page.goto(system.url)
    page.get_by_role("button", name="Open AL-Chat").click()
    if consent:
        page.get_by_role("dialog").get_by_role("button", name="Allow").click()
    expect(composer(page)).to_be_visible(timeout=40 * SECONDS)


def composer(page: Page):  # type: ignore[no-untyped-def]
    return page.get_by_placeholder("Message AL-Chat")


def ask(page: Page, text: str) -> None:
    composer(page).fill(text)
    # While files are still on their way the input does not send.
    expect(page.get_by_role("button", name="Send message")).to_be_enabled()
    composer(page).press("Enter")


def idle(page: Page) -> None:
    """Waits until what was just done has been heard and the page is drawn."""
    page.wait_for_timeout(400)
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")


def tab_to(page: Page, name: str) -> None:
    """Presses Tab until what has this name has the focus."""
    script = """() => {
      const element = document.activeElement
      const label = element.getAttribute("aria-label") || element.labels?.[0]?.innerText
      return (label || element.innerText || "").trim()
    }"""
    for _ in range(60):
        page.keyboard.press("Tab")
        if str(page.evaluate(script)).endswith(name):
            return
    raise AssertionError(f"nothing called {name} can be reached by keyboard")


def choose_model(page: Page, model: str) -> None:
    """Picks the model from the list, or types its name where the list does not have it."""
    field = page.get_by_role("combobox", name="Model")
    field.click()
    option = page.get_by_role("option", name=model, exact=True)
    if option.count():
        option.click()
    else:
        page.keyboard.type(model)
        page.keyboard.press("Enter")
    expect(field).to_have_value(model)


def written(page: Page, number: int = -1) -> list[str]:
    """The words of an answer, without what stands around them."""
    drawn = answers(page).nth(number).get_by_test_id("stMarkdown")
    return " ".join(drawn.all_inner_texts()).split()


def answers(page: Page):  # type: ignore[no-untyped-def]
    """The bubbles of the conversation, questions and answers in turn."""
    return page.get_by_test_id("stChatMessage")
