"""What stands inside an answer, on the running system: thoughts, tools, sources, cost, Markdown.

Conversations are begun by AL-Chat's API, which is quicker; they are read, decided and followed in
the browser.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import BrowserContext, Locator, Page, expect

from alchat_core.client import AlChatClient, UserClient
from demo.provider.scripts import script_for
from tests.alchat_core.documents import pdf
from tests.alchat_core.tool_servers import OddServer
from tests.browser.people import (
    SECONDS,
    answers,
    arrive,
    ask,
    choose_model,
    composer,
    written,
)
from tests.system import KEY, System

MARKDOWN = r"""Einstein wrote \(E = mc^2\), and it costs $5 to $6.

\[
a

+ b
\]

![a cat](http://localhost:9/cat.png) and <b>bold</b>

```mermaid
graph LR
  A[Wombat] --> B[Burrow]
```

```python
print("code")
```
"""


@pytest.fixture(scope="module")
def odd() -> Iterator[OddServer]:
    running = OddServer()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, odd: OddServer) -> Iterator[System]:
    made = System(
        Path(tmp_path_factory.mktemp("system")),
        alchat=True,
        settings={
            "ALCHAT_ATTACHMENT_CONTEXT_CHARS": "500",
            "ALCHAT_PRICES": "thinking-160-50=400/800",
        },
    )
    made.env["PAPITA_PROVIDER_ALLOWLIST"] = f"{made.provider_url},{odd.origin}"
    with made:
        yield made


@pytest.fixture(scope="module")
def papita(system: System, page: Page) -> requests.Session:
    """Papita's API for the user of the page."""
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {system.access_token('ana')}"
    return session


@pytest.fixture(scope="module")
def page(context: BrowserContext, system: System) -> Page:
    return arrive(context, system, key=False)


@pytest.fixture(scope="module")
def key_id(system: System, papita: requests.Session) -> str:
    """A key with a budget of which the first answer takes a part."""
    answer = papita.post(
        f"{system.url}/api/credentials",
        json={
            "credentialType": "openai",
            "label": "Mine",
            "credentials": {"api_key": KEY},
            "baseUrl": f"{system.provider_url}/v1",
            "budget": {"limitUsd": 1, "period": "month"},
        },
        timeout=10,
    )
    assert answer.status_code == 201, answer.text
    found: str = answer.json()["credentials"]["id"]
    return found


@pytest.fixture(scope="module")
def ana(system: System, page: Page, papita: requests.Session, key_id: str) -> UserClient:
    """AL-Chat's API for her, who has a key now."""
    page.reload()
    expect(composer(page)).to_be_visible()

    def token() -> str:
        answer = papita.post(f"{system.url}/api/projects/al-chat/launch", timeout=60)
        found: str = answer.json()["token"]
        return found

    return AlChatClient(system.alchat_url).as_user(token)


@pytest.fixture(scope="module")
def window(ana: UserClient, context: BrowserContext, system: System) -> Page:
    """A second window that looks on at a conversation from now on, and is not touched."""
    looking = ana.create_conversation(title="Looked on at")
    made = context.new_page()
    _go(made, system, looking.id)
    expect(made.get_by_role("heading", name="Looked on at")).to_be_visible()
    return made


def _go(page: Page, system: System, conversation_id: str) -> None:
    page.goto(f"{system.url}/al-chat?conversation={conversation_id}")


def _finished(user: UserClient, run_id: str) -> None:
    with user.follow(run_id) as events:
        while not events.finished:
            events.wait(10)


def _answer(page: Page) -> Locator:
    return answers(page).last


def _no_stop(page: Page) -> None:
    expect(page.get_by_role("button", name="Stop")).to_have_count(0, timeout=30 * SECONDS)


def test_thoughts_fold_and_the_receipt_says_what_it_cost(
    page: Page, system: System, ana: UserClient, window: Page
) -> None:
    looked_on_at = window.url.rpartition("=")[2]
    _finished(ana, ana.send(looked_on_at, "Do you see me?", model="echo").run_id)

    conversation = ana.create_conversation(title="Thinking")
    _go(page, system, conversation.id)
    expect(page.get_by_role("heading", name="Thinking")).to_be_visible()
    choose_model(page, "thinking-160-50")
    ask(page, "Think first.")
    expect(page.get_by_text("Thinking …")).to_be_visible()
    page.get_by_text("Thinking …").click()
    expect(_answer(page)).to_contain_text("The quick brown potato")
    _no_stop(page)
    # Folded: what was thought is not even on the page until somebody opens it.
    script = script_for("thinking-160-50")
    assert written(page) == script.text.split()
    fold = _answer(page).get_by_text(re.compile(r"^Thought for \d+ s$"))
    fold.click()
    expect(_answer(page).get_by_text("".join(script.thoughts).split("\n")[0])).to_be_visible()
    expect(_answer(page)).to_contain_text("".join(script.thoughts).split("\n")[-1])

    line = _answer(page).get_by_role("button", name=re.compile("thinking-160-50 · "))
    expect(line).to_contain_text(re.compile(r"\$0\.\d+ · your key ••9b7d · \d+% of this month"))
    # By the keyboard: the page may still be on its way to its end, and the line with it.
    line.press("Enter")
    message = ana.messages(conversation.id).items[-1]
    assert message.run is not None
    expect(page.get_by_role("dialog")).to_contain_text(message.run.id)
    assert message.usage is not None
    tokens = page.get_by_role("row", name="Tokens written")
    expect(tokens).to_contain_text(str(message.usage["completionTokens"]))
    page.keyboard.press("Escape")


def test_a_call_is_allowed_where_it_happens_and_seen_in_another_tab(
    page: Page, system: System, ana: UserClient, odd: OddServer, context: BrowserContext
) -> None:
    server = ana.create_tool_server("Odd tools", odd.url())
    conversation = ana.create_conversation(title="Tools", tools=[server.id])
    other = context.new_page()
    for tab in (page, other):
        _go(tab, system, conversation.id)
        expect(tab.get_by_role("heading", name="Tools")).to_be_visible()
    choose_model(page, "tools")
    ask(page, 'call say {"text": "hello wombat"}\nthen\ncall long {"text": "x"}')
    once = page.get_by_role("button", name="Allow once")
    expect(page.get_by_text("May say be called?")).to_be_visible()
    expect(_answer(page)).to_contain_text("hello wombat")
    other.reload()
    expect(other.get_by_role("button", name="Allow once")).to_be_visible()
    assert odd.calls["say"] == 0
    once.click()
    # Settled in both, and both are asked about the next one.
    for tab in (page, other):
        expect(tab.get_by_text("May say be called?")).to_have_count(0)
        expect(tab.get_by_text("May long be called?")).to_be_visible()
    assert odd.calls["say"] == 1
    other.get_by_role("button", name="Deny").click()
    for tab in (page, other):
        _no_stop(tab)
        expect(_answer(tab)).to_contain_text("2 results, 0 earlier")
    assert odd.calls["long"] == 0
    other.close()
    page.reload()
    steps = _answer(page).get_by_test_id("stExpander")
    expect(steps).to_have_count(2)
    expect(steps.nth(0)).not_to_contain_text("hello wombat")
    steps.nth(0).get_by_text("say", exact=True).click()
    expect(steps.nth(0).get_by_test_id("stCode")).to_have_count(2)
    expect(steps.nth(0)).to_contain_text("hello wombat")


def test_a_citation_opens_its_place_in_the_file(
    page: Page, system: System, ana: UserClient
) -> None:
    made = pdf("Linda is waxy.\n" * 30, "Rosara is red and early.\n" * 30)
    file = ana.upload("potatoes.pdf", made)
    conversation = ana.create_conversation(title="Sources")
    question = "Waxy [1] and red [2], not [77]."
    _finished(ana, ana.send(conversation.id, question, "echo", attachments=[file.id]).run_id)
    sources = {one.page: one.n for one in ana.messages(conversation.id).items[-1].sources}
    _go(page, system, conversation.id)
    last = _answer(page).get_by_test_id("stMarkdown").filter(has_text="Waxy").last
    expect(last).to_contain_text("[77]")
    expect(last.get_by_role("link", name="[77]")).to_have_count(0)
    last.get_by_role("link", name=f"[{sources[2]}]").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("potatoes.pdf, page 2")
    expect(dialog).to_contain_text("Rosara is red and early.")
    with page.expect_download() as download:
        dialog.get_by_role("button", name="Download the file").click()
    assert download.value.suggested_filename == "potatoes.pdf"
    assert Path(download.value.path()).read_bytes() == made
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)
    _answer(page).get_by_text("2 sources").click()
    _answer(page).get_by_role("link", name="potatoes.pdf, page 1").click()
    expect(dialog).to_contain_text("Linda is waxy.")
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)


def test_markdown_as_people_expect_it(page: Page, system: System, ana: UserClient) -> None:
    conversation = ana.create_conversation(title="Markdown")
    _finished(ana, ana.send(conversation.id, MARKDOWN, model="echo-all").run_id)
    _go(page, system, conversation.id)
    answer = _answer(page)
    expect(answer.locator(".katex")).to_have_count(2)
    expect(answer).to_contain_text("and it costs $5 to $6.")
    expect(answer.get_by_role("link", name="a cat")).to_be_visible()
    expect(answer.locator("img[src*='cat.png']")).to_have_count(0)
    expect(answer).to_contain_text("<b>bold</b>")
    diagram = answer.get_by_test_id("stMermaidChart")
    expect(diagram.get_by_role("img", name="A diagram")).to_be_visible()
    expect(answer.get_by_test_id("stCode").filter(has_text='print("code")')).to_be_visible()


def test_an_answer_goes_on_under_a_dialog_and_is_followed_when_it_closes(
    page: Page, system: System, ana: UserClient
) -> None:
    conversation = ana.create_conversation(title="Covered")
    first = ana.send(conversation.id, "Who are you?", model="echo")
    _finished(ana, first.run_id)
    dialog = page.get_by_role("dialog")
    for opened in ("details", "keys"):
        sent = ana.send(conversation.id, "A long one.", model="stream-300-20")
        _go(page, system, conversation.id)
        words = script_for("stream-300-20").text.split()
        expect(_answer(page)).to_contain_text(" ".join(words[:10]))
        if opened == "details":
            answers(page).nth(1).get_by_role("button", name=re.compile("echo · ")).click()
            expect(dialog).to_contain_text(first.run_id)
        else:
            page.get_by_role("heading", name="Covered").click()
            # Keys are heard once all of the page is there, which is after the first words.
            expect(page.locator(".st-key-al_chat_shortcuts")).to_be_attached()
            page.wait_for_timeout(500)
            page.keyboard.press("?")
            expect(dialog).to_contain_text("Search chats")
        page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)
        _no_stop(page)
        assert written(page) == words
        assert ana.run(sent.run_id).state == "completed"


def test_what_happens_elsewhere_closes_no_dialog(
    page: Page, system: System, ana: UserClient
) -> None:
    conversation = ana.create_conversation(title="Elsewhere")
    _go(page, system, conversation.id)
    expect(page.get_by_role("heading", name="Elsewhere")).to_be_visible()
    page.get_by_role("button", name="Settings", exact=True).click()
    page.get_by_text("Settings of this chat").click()
    dialog = page.get_by_role("dialog")
    field = dialog.get_by_label("System prompt")
    field.fill("Answer in Latin.")
    _finished(ana, ana.send(conversation.id, "From elsewhere.", model="echo").run_id)
    # The page looks every ten seconds.
    page.wait_for_timeout(12 * SECONDS)
    expect(field).to_have_value("Answer in Latin.")
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)
    expect(answers(page)).to_have_count(2)


def test_the_page_comes_back_when_the_portal_was_killed_in_mid_answer(
    page: Page, system: System, ana: UserClient
) -> None:
    words = script_for("stream-300-20").text.split()
    conversation = ana.create_conversation(title="Killed")
    sent = ana.send(conversation.id, "Go on and on.", model="stream-300-20")
    _go(page, system, conversation.id)
    expect(_answer(page)).to_contain_text(" ".join(words[:10]))
    system.stop("portal", signal.SIGKILL)
    system.start_portal()
    expect(_answer(page)).to_contain_text(" ".join(words[-8:]), timeout=40 * SECONDS)
    _no_stop(page)
    assert written(page) == words
    assert ana.run(sent.run_id).state == "completed"


def test_the_second_window_has_seen_what_happened(window: Page) -> None:
    expect(answers(window).nth(0)).to_contain_text("Do you see me?", timeout=30 * SECONDS)
    expect(answers(window).nth(1)).to_contain_text("Do you see me?")


def test_a_key_that_is_deleted_ends_the_answer_and_keeps_its_words(
    page: Page, system: System, ana: UserClient, papita: requests.Session, key_id: str
) -> None:
    words = script_for("stream-3000-20").text.split()
    conversation = ana.create_conversation(title="Revoked")
    ana.send(conversation.id, "Too long.", model="stream-3000-20")
    _go(page, system, conversation.id)
    expect(_answer(page)).to_contain_text(" ".join(words[:10]))
    address = f"{system.url}/api/credentials/{key_id}"
    etag = papita.get(address, timeout=10).headers["ETag"]
    assert papita.delete(address, headers={"If-Match": etag}, timeout=10).status_code == 204
    _no_stop(page)
    expect(_answer(page)).to_contain_text(" ".join(words[:10]))
    expect(_answer(page).get_by_role("alert")).to_be_visible()
    expect(_answer(page)).to_contain_text("a key that is deleted")
