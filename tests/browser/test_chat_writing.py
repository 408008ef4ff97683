"""Writing: files, drafts, the next message while an answer is written, model, settings, prompts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from tests.browser.people import (
    SECONDS,
    answers,
    arrive,
    ask,
    choose_model,
    composer,
    expect_door,
    idle,
    open_context,
    sign_in,
)
from tests.system import System

PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108020000009077"
    "53de0000000c4944415408d763f8cfc000000301010018dd8db00000000049454e44ae426082"
)

PARTS = """[
  ...document.querySelector('[data-testid="stChatMessage"]').querySelectorAll("*"),
  document.querySelector('[data-testid="stSidebar"] input[type="search"]'),
]"""


@pytest.fixture(scope="module")
def system(shared_system: System) -> System:
    return shared_system


@pytest.fixture(scope="module")
def page(browser: Browser, system: System) -> Iterator[Page]:
    context = open_context(browser)
    yield arrive(context, system, "wilma")
    context.close()


@pytest.fixture(autouse=True)
def _in_a_new_chat(page: Page, system: System) -> None:
    page.goto(f"{system.url}/al-chat")
    expect(composer(page)).to_be_visible()


def stop(page: Page) -> Locator:
    return page.get_by_role("button", name="Stop", exact=True)


def from_menu(page: Page, entry: str) -> Locator:
    page.get_by_role("button", name="Settings", exact=True).click()
    page.get_by_text(entry).click()
    return page.get_by_role("dialog")


def test_files_go_with_the_question_and_are_shown_in_it(
    page: Page, system: System, tmp_path: Path
) -> None:
    picture, notes = tmp_path / "field.png", tmp_path / "notes.txt"
    picture.write_bytes(PICTURE)
    notes.write_text("Potatoes are tubers.\n" * 40)
    choose_model(page, "echo")
    page.locator("input[type=file]").first.set_input_files([picture, notes])
    expect(page.get_by_test_id("stChatInput")).to_contain_text("notes.txt")
    ask(page, "What is in these?")
    expect(answers(page).nth(1)).to_contain_text("Potatoes are tubers.")
    expect(stop(page)).to_have_count(0)
    question = answers(page).nth(0)
    expect(question).to_contain_text("What is in these?")
    shown = question.get_by_role("img", name="field.png")
    expect(shown).to_be_visible()
    assert shown.evaluate("image => image.naturalWidth") == 1
    with page.expect_download() as download:
        question.get_by_role("link", name="notes.txt").click(modifiers=["Alt"])
    assert download.value.suggested_filename == "notes.txt"
    address = question.get_by_role("link", name="notes.txt").get_attribute("href")

    # What AL-Chat does not read is said in words, and nothing is lost; without it, it is sent.
    bad = tmp_path / "noise.bin"
    bad.write_bytes(bytes(range(256)) * 20)
    page.locator("input[type=file]").first.set_input_files([bad, notes])
    expect(page.get_by_test_id("stChatInput")).to_contain_text("noise.bin")
    ask(page, "And in these?")
    expect(page.get_by_role("button", name="Send again")).to_be_visible()
    page.get_by_role("button", name="Leave noise.bin out").click()
    page.get_by_role("button", name="Send again").click()
    expect(answers(page).nth(3)).to_contain_text("And in these?")
    expect(page.get_by_role("button", name="Send again")).to_have_count(0)

    # Nobody else gets to the file.
    stranger = open_context(page.context.browser)  # type: ignore[arg-type]
    assert stranger.request.get(f"{system.url}{address}").status == 401
    stranger.close()


def test_a_draft_survives_reload_switching_and_another_tab(page: Page, system: System) -> None:
    choose_model(page, "echo")
    ask(page, "Asked before")
    expect(answers(page)).to_have_count(2)
    expect(stop(page)).to_have_count(0)
    address = page.url
    composer(page).fill("Half a thought")
    page.reload()
    expect(composer(page)).to_have_value("Half a thought")
    other = page.context.new_page()
    other.goto(address)
    expect(composer(other)).to_have_value("Half a thought")
    other.close()
    page.keyboard.press("Control+Shift+O")
    expect(answers(page)).to_have_count(0)
    expect(composer(page)).to_have_value("")
    composer(page).fill("Another one")
    page.goto(address)
    expect(composer(page)).to_have_value("Half a thought")
    forgotten = "() => !Object.values(localStorage).includes('Half a thought')"
    kept = page.evaluate("() => ({ ...localStorage })")
    assert "Half a thought" in kept.values()
    composer(page).press("Enter")
    expect(answers(page)).to_have_count(4)
    expect(stop(page)).to_have_count(0)
    page.wait_for_function(forgotten)
    # A page that is left in the moment of sending does not hear that its message was taken.
    page.evaluate("(kept) => Object.assign(localStorage, kept)", kept)
    page.reload()
    expect(answers(page)).to_have_count(4)
    page.wait_for_function(forgotten)
    expect(composer(page)).to_have_value("")
    page.goto(f"{system.url}/al-chat")
    expect(composer(page)).to_have_value("Another one")
    composer(page).fill("")


def test_the_next_message_waits_for_the_answer(page: Page) -> None:
    choose_model(page, "stream-400-25")
    ask(page, "A long one")
    expect(answers(page).nth(1)).to_contain_text("quick brown")
    ask(page, "The next one")
    expect(page.get_by_text("Queued")).to_be_visible()
    ask(page, "One too many")
    expect(page.get_by_text("Queued")).to_have_count(2)
    page.get_by_role("button", name="Take back").last.click()
    expect(composer(page)).to_have_value("One too many")
    expect(page.get_by_text("Queued")).to_have_count(1)
    # It is sent by itself, after an answer that is complete.
    expect(answers(page)).to_have_count(4, timeout=30 * SECONDS)
    expect(answers(page).nth(2)).to_contain_text("The next one")
    expect(page.get_by_text("Queued")).to_have_count(0)
    expect(answers(page).nth(1)).to_contain_text("counts small white flowers before summer")
    expect(composer(page)).to_have_value("One too many")
    # Stop says that something was not as wanted: what waits stays, and a reload loses nothing.
    composer(page).press("Enter")
    expect(page.get_by_text("Queued")).to_be_visible()
    stop(page).click()
    expect(page.get_by_text("Not sent, since the answer is not complete.")).to_be_visible()
    page.reload()
    expect(composer(page)).to_have_value("One too many")
    composer(page).fill("")


def test_a_model_is_found_and_made_a_favourite(page: Page) -> None:
    field = page.get_by_role("combobox", name="Model")
    choose_model(page, "demo")
    field.click()
    page.keyboard.type("demo-fast")
    page.keyboard.press("Enter")
    expect(field).to_have_value("demo-fast")
    star = page.get_by_role("button", name="Favourite")
    star.click()
    expect(star).to_have_attribute("aria-pressed", "true")
    idle(page)
    # The choice holds for what is sent next, and the favourite for good.
    ask(page, "Who answers?")
    expect(answers(page).nth(1)).to_contain_text("What I noticed in your message")
    page.reload()
    expect(field).to_have_value("demo-fast")
    field.click()
    expect(page.get_by_role("option").first).to_have_text(re.compile("★ demo-fast"))
    page.keyboard.press("Escape")


def test_a_new_chat_begins_with_its_settings(page: Page) -> None:
    dialog = from_menu(page, "Settings of this chat")
    dialog.get_by_label("System prompt").fill("Answer in Latin.")
    dialog.get_by_label("Temperature", exact=True).fill("0.3")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)
    choose_model(page, "echo")
    ask(page, "Salve")
    expect(answers(page)).to_have_count(2)
    expect(stop(page)).to_have_count(0)
    page.reload()
    expect(answers(page)).to_have_count(2)
    from_menu(page, "Settings of this chat")
    expect(dialog.get_by_label("System prompt")).to_have_value("Answer in Latin.")
    expect(dialog.get_by_label("Temperature", exact=True)).to_have_value("0.30")
    dialog.get_by_role("button", name="Reset to defaults").click()
    expect(dialog.get_by_label("System prompt")).to_have_value("")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def test_prompts_and_assistants_by_menu_and_by_slash(page: Page) -> None:
    dialog = from_menu(page, "Prompts and assistants")
    for kind, name, text in (
        ("Assistant", "Latin teacher", "Speak Latin."),
        ("Prompt", "Summarise", "Summarise this:"),
    ):
        dialog.get_by_role("button", name="New prompt or assistant").click()
        dialog.get_by_label("Name").fill(name)
        dialog.get_by_role("radio", name=kind).click()
        dialog.get_by_label("Text of the prompt").fill(text)
        dialog.get_by_role("button", name="Save").click()
        expect(dialog.get_by_text(name)).to_be_visible()
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)
    # The dialog gives the focus back when it is gone, and the page is drawn anew.
    idle(page)

    composer(page).press_sequentially("/")
    expect(page.get_by_role("option", name="Latin teacher")).to_be_visible()
    composer(page).press_sequentially("sum")
    expect(page.get_by_role("option")).to_have_count(1)
    composer(page).press("Enter")
    expect(composer(page)).to_have_value("Summarise this:")
    expect(answers(page)).to_have_count(0)
    composer(page).fill("")
    composer(page).press_sequentially("/lat")
    composer(page).press("Enter")
    expect(page.get_by_role("button", name="Without it")).to_be_visible()
    choose_model(page, "echo")
    ask(page, "Salve")
    expect(answers(page)).to_have_count(2)
    expect(stop(page)).to_have_count(0)
    from_menu(page, "Settings of this chat")
    expect(dialog.get_by_label("System prompt")).to_have_value("Speak Latin.")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def test_an_assistant_has_files(page: Page) -> None:
    dialog = from_menu(page, "Prompts and assistants")
    dialog.get_by_role("button", name="New prompt or assistant").click()
    dialog.get_by_label("Name").fill("Zoologist")
    dialog.get_by_label("Text of the prompt").fill("You know animals.")
    picked = dialog.locator("input[type=file]")
    picked.set_input_files(
        [
            {"name": "wombats.txt", "mimeType": "text/plain", "buffer": b"They dig."},
            {
                "name": "noise.bin",
                "mimeType": "application/octet-stream",
                "buffer": bytes(range(256)) * 20,
            },
        ]
    )
    expect(dialog.get_by_text("noise.bin")).to_be_visible()
    dialog.get_by_role("button", name="Save").click()
    # The sentence names the file that is not taken, and the form stays as it is.
    expect(dialog.get_by_role("alert")).to_contain_text("noise.bin: ")
    expect(dialog.get_by_label("Name")).to_have_value("Zoologist")
    dialog.get_by_role("button", name="Remove noise.bin").click()
    expect(dialog.get_by_role("button", name="Remove noise.bin")).to_have_count(0)
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_text("wombats.txt")).to_be_visible()

    def edit() -> None:
        # The list is there when what stands below it is, and this one has the last of the names.
        expect(dialog.get_by_role("button", name="New prompt or assistant")).to_be_visible()
        dialog.get_by_role("button", name="Edit").last.click()
        expect(dialog.get_by_label("Name")).to_have_value("Zoologist")

    edit()
    picked.set_input_files(
        {"name": "burrows.txt", "mimeType": "text/plain", "buffer": b"Three metres deep."}
    )
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_text("wombats.txt, burrows.txt")).to_be_visible()
    edit()
    chosen = dialog.get_by_test_id("stMultiSelect").filter(has_text="Files")
    chosen.get_by_role("button", name="Remove wombats.txt").click()
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_text("burrows.txt")).to_be_visible()
    expect(dialog.get_by_text("wombats.txt")).to_have_count(0)
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)


def test_what_is_on_the_page_is_not_built_anew_by_the_next_message(page: Page) -> None:
    """The first bubble and the field of the search, while an answer is written and after it."""
    choose_model(page, "echo")
    ask(page, "The first one")
    expect(answers(page)).to_have_count(2)
    expect(stop(page)).to_have_count(0)
    choose_model(page, "stream-40-50")
    page.evaluate(f"{PARTS}.forEach(part => {{ part.seen = true }})")
    ask(page, "The second one")
    expect(answers(page).nth(3)).to_contain_text("The quick brown potato")
    assert page.evaluate(f"{PARTS}.filter(part => !part.seen).map(part => part.outerHTML)") == []
    expect(stop(page)).to_have_count(0)
    assert page.evaluate(f"{PARTS}.filter(part => !part.seen).map(part => part.outerHTML)") == []


def test_what_was_just_sent_is_drawn_alone_and_the_page_follows(page: Page) -> None:
    """Two fragments draw question and answer; the whole page draws on, in the same bubbles."""
    frames: list[bytes | str] = []

    def keep(frame: bytes | str) -> None:
        frames.append(frame)

    page.on("websocket", lambda socket: socket.on("framereceived", keep))
    page.reload()
    choose_model(page, "echo")
    ask(page, "The first one")
    expect(answers(page)).to_have_count(2)
    expect(stop(page)).to_have_count(0)
    choose_model(page, "stream-100-40")
    idle(page)
    frames.clear()
    ask(page, "The second one")
    expect(answers(page).nth(3)).to_contain_text("The quick brown potato")
    expect(stop(page)).to_be_visible()
    bubbles = "[...document.querySelectorAll('[data-testid=\"stChatMessage\"]')].slice(2)"
    page.evaluate(f"{bubbles}.forEach(bubble => {{ bubble.seen = true }})")
    expect(stop(page)).to_have_count(0)
    drawn = _drawn_by(frames, "The second one")
    assert len(drawn[0]) == 2
    assert drawn[1:] == [[]] * len(drawn[1:])
    assert drawn[1:]
    assert page.evaluate(f"{bubbles}.map(bubble => bubble.seen)") == [True, True]


def _drawn_by(frames: list[bytes | str], text: str) -> list[list[str]]:
    """Of each run that has drawn this text, the fragments; none for the whole page."""
    found: list[list[str]] = []
    fragments: list[str] = []
    for frame in frames:
        if isinstance(frame, str):
            continue
        message = ForwardMsg.FromString(frame)
        if message.HasField("new_session"):
            fragments = list(message.metadata.run.fragment_ids)
        if message.delta.new_element.markdown.body == text:
            found.append(fragments)
    return found


def test_a_tool_server_is_kept_with_what_is_wrong_at_its_field(page: Page, system: System) -> None:
    dialog = from_menu(page, "Tool servers")
    dialog.get_by_role("button", name="Add a tool server").click()
    dialog.get_by_label("Name").fill("Weather")
    dialog.get_by_label("Address").fill("ftp://weather")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_text("https")).to_be_visible()
    dialog.get_by_label("Address").fill(f"{system.provider_url}/mcp")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_text("not asked yet")).to_be_visible()
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)
    from_menu(page, "Settings of this chat")
    expect(dialog.get_by_role("switch", name="Weather")).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def test_what_is_typed_while_a_new_chat_opens_belongs_to_it(page: Page) -> None:
    choose_model(page, "echo")
    ask(page, "The first one")
    expect(answers(page)).to_have_count(2)
    expect(stop(page)).to_have_count(0)
    here = page.url
    page.evaluate(
        """() => {
          document.querySelector(".st-key-al_chat_new button").click()
          const box = document.querySelector('[data-testid="stChatInputTextArea"]')
          const { set } = Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value")
          set.call(box, "Faster than the page")
          box.dispatchEvent(new Event("input", { bubbles: true }))
        }"""
    )
    expect(answers(page)).to_have_count(0)
    expect(composer(page)).to_have_value("Faster than the page")
    page.goto(here)
    expect(answers(page)).to_have_count(2)
    expect(composer(page)).to_have_value("")
    page.get_by_role("button", name="New chat").click()
    expect(composer(page)).to_have_value("Faster than the page")
    composer(page).fill("")


def test_keys_for_what_one_does_often(page: Page) -> None:
    page.get_by_role("button", name="New chat").click()
    expect(answers(page)).to_have_count(0)
    composer(page).press("Control+k")
    expect(page.get_by_placeholder("Search chats")).to_be_focused()
    page.keyboard.type("?")  # typed, not asked
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("Backspace")
    page.keyboard.press("Shift+Escape")
    expect(composer(page)).to_be_focused()
    page.keyboard.press("Control+b")
    expect(page.get_by_test_id("stSidebar")).to_have_attribute("data-collapsed", "true")
    page.keyboard.press("Control+b")
    expect(page.get_by_test_id("stSidebar")).to_have_attribute("data-collapsed", "false")
    choose_model(page, "stream-1000-50")
    ask(page, "At length")
    expect(stop(page)).to_be_visible()
    page.keyboard.press("Control+.")
    expect(stop(page)).to_have_count(0)
    page.get_by_role("heading", name="At length").click()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog").get_by_text("Show or hide the sidebar")).to_be_visible()


def test_log_out_takes_the_drafts_along(page: Page) -> None:
    composer(page).fill("A secret plan")
    page.get_by_role("button", name="Log out").click()
    expect_door(page)
    page.wait_for_function("!Object.keys(localStorage).some((key) => key.includes('draft'))")
    sign_in(page, "wilma")
    expect(composer(page)).to_be_visible()
    expect(composer(page)).to_have_value("")
