"""Finding conversations, and what one does with a whole one, on the running system."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from alchat_core.client import AlChatClient
from tests.browser.people import (
    answers,
    arrive,
    ask,
    choose_model,
    cookie_is_set,
    open_context,
    sign_in,
)
from tests.system import System


@pytest.fixture(scope="module")
def system(shared_system: System) -> System:
    return shared_system


@pytest.fixture(scope="module")
def page(context: BrowserContext, system: System) -> Page:
    """A chat page with two conversations."""
    made = arrive(context, system, "hanna")
    choose_model(made, "echo")
    talk(made, "Where do wombats sleep?")
    new_chat(made)
    talk(made, "How deep is a burrow?")
    return made


def new_chat(page: Page) -> None:
    page.get_by_role("button", name="New chat").click()
    expect(answers(page)).to_have_count(0)


def talk(page: Page, text: str) -> None:
    ask(page, text)
    expect(answers(page)).to_have_count(2)
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)


def sidebar(page: Page) -> Locator:
    return page.get_by_test_id("stSidebar")


def row(page: Page, title: str) -> Locator:
    listed = sidebar(page).locator(".st-key-al_chat_conversations")
    return listed.get_by_test_id("stBaseButton-tertiary").filter(has_text=title, visible=True)


def menu_of(page: Page, title: str) -> Locator:
    """The button at the row; it is seen when one points at the row."""
    row(page, title).hover()
    return sidebar(page).get_by_role("button", name=f"Options of {title}")


def choose_at_row(page: Page, title: str, what: str) -> None:
    menu_of(page, title).click()
    page.get_by_role("menu").get_by_role("menuitem", name=what, exact=True).click()
    expect(page.get_by_role("menu")).to_have_count(0)


def choose(page: Page, what: str) -> None:
    """Picks from the menu of the conversation."""
    page.get_by_role("button", name="Options", exact=True).click()
    page.get_by_role("menuitem", name=what).click()


def close(dialog: Locator) -> None:
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)


def heading(page: Page, title: str) -> None:
    expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()


def test_chats_stand_under_their_day_and_are_found_as_one_types(page: Page) -> None:
    expect(sidebar(page).get_by_text("Today")).to_be_visible()
    expect(row(page, "Where do wombats sleep?")).to_be_visible()
    search = sidebar(page).get_by_placeholder("Search chats")
    # No Enter.
    search.press_sequentially("womb")
    hits = sidebar(page).locator(".st-key-al_chat_hits")
    expect(hits.get_by_role("button")).to_have_count(1)
    expect(hits.get_by_text("wombats", exact=True).first).to_be_visible()
    hits.get_by_role("button").click()
    heading(page, "Where do wombats sleep?")
    search.fill("nowhere to be found")
    expect(sidebar(page).get_by_text("Nothing found.")).to_be_visible()
    search.fill("")
    expect(row(page, "How deep is a burrow?")).to_be_visible()


def test_a_chat_is_renamed_pinned_sorted_and_tagged(page: Page) -> None:
    row(page, "Where do wombats sleep?").click()
    heading(page, "Where do wombats sleep?")
    choose(page, "Rename")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Title").fill("Wombats *sleep*")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)
    heading(page, "Wombats *sleep*")
    choose(page, "Pin")
    expect(sidebar(page).get_by_text("Pinned")).to_be_visible()

    row(page, "How deep is a burrow?").click()
    heading(page, "How deep is a burrow?")
    choose(page, "Move to a folder")
    dialog.get_by_role("combobox", name="Folder").fill("Animals")
    page.keyboard.press("Enter")
    dialog.get_by_role("button", name="Move").click()
    expect(dialog).to_have_count(0)
    # It is in its folder now, which is closed.
    expect(row(page, "How deep is a burrow?")).to_have_count(0)
    sidebar(page).get_by_text("Animals", exact=True).click()
    expect(row(page, "How deep is a burrow?")).to_be_visible()

    choose(page, "Tags")
    dialog.get_by_role("combobox").fill("digging")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    close(dialog)
    expect(page.get_by_role("main").get_by_text("digging")).to_be_visible()
    sidebar(page).get_by_role("button", name="Manage").click()
    # A second click on the tag ends the filter.
    tag = page.get_by_test_id("stPopoverBody").get_by_text("digging", exact=True)
    tag.click()
    expect(row(page, "Wombats")).to_have_count(0)
    expect(row(page, "How deep is a burrow?")).to_be_visible()
    tag.click()
    expect(row(page, "Wombats")).to_be_visible()
    tag.click()
    expect(row(page, "Wombats")).to_have_count(0)
    page.keyboard.press("Escape")
    sidebar(page).locator(".st-key-al_chat_list_all").get_by_role("button").click()
    expect(row(page, "Wombats")).to_be_visible()


def test_what_is_deleted_comes_back_and_what_is_archived_is_kept_apart(page: Page) -> None:
    row(page, "Wombats").click()
    heading(page, "Wombats *sleep*")
    choose(page, "Delete")
    expect(row(page, "Wombats")).to_have_count(0)
    expect(answers(page)).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    heading(page, "Wombats *sleep*")
    expect(answers(page)).to_have_count(2)
    expect(page.get_by_role("button", name="Undo")).to_have_count(0)

    choose(page, "Archive")
    expect(row(page, "Wombats")).to_have_count(0)
    sidebar(page).get_by_role("button", name="Manage").click()
    page.get_by_test_id("stPopoverBody").get_by_text("Archived").click()
    expect(row(page, "Wombats")).to_be_visible()
    page.get_by_test_id("stPopoverBody").get_by_text("Archived").click()
    page.keyboard.press("Escape")
    choose(page, "Unarchive")
    expect(row(page, "Wombats")).to_be_visible()


def test_each_row_has_a_menu_that_does_not_open_the_chat(page: Page) -> None:
    new_chat(page)
    talk(page, "What do they eat?")
    here = page.url
    choose_at_row(page, "Wombats", "Rename")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Title")).to_have_value("Wombats *sleep*")
    dialog.get_by_label("Title").fill("Wombats *doze*")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)
    expect(row(page, "Wombats *doze*")).to_be_visible()

    # What is said of a chat at its row holds for the chat that is open, too.
    choose_at_row(page, "What do they eat?", "Pin")
    page.get_by_role("button", name="Options", exact=True).click()
    expect(page.get_by_role("menuitem", name="Unpin")).to_be_visible()
    page.keyboard.press("Escape")
    choose_at_row(page, "What do they eat?", "Unpin")
    expect(sidebar(page).get_by_text("Today")).to_be_visible()

    choose_at_row(page, "Wombats", "Archive")
    expect(row(page, "Wombats")).to_have_count(0)
    sidebar(page).get_by_role("button", name="Manage").click()
    page.get_by_test_id("stPopoverBody").get_by_text("Archived").click()
    expect(row(page, "Wombats")).to_be_visible()
    page.keyboard.press("Escape")
    choose_at_row(page, "Wombats", "Unarchive")
    expect(row(page, "Wombats")).to_have_count(0)
    sidebar(page).locator(".st-key-al_chat_list_all").get_by_role("button").click()
    expect(row(page, "Wombats")).to_be_visible()

    choose_at_row(page, "Wombats", "Delete")
    expect(row(page, "Wombats")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(row(page, "Wombats")).to_be_visible()
    expect(page.get_by_role("button", name="Undo")).to_have_count(0)
    heading(page, "What do they eat?")
    assert page.url == here
    choose_at_row(page, "What do they eat?", "Delete")
    expect(row(page, "What do they eat?")).to_have_count(0)
    expect(answers(page)).to_have_count(0)
    choose_at_row(page, "Wombats", "Rename")
    dialog.get_by_label("Title").fill("Wombats *sleep*")
    dialog.get_by_role("button", name="Save").click()
    expect(row(page, "Wombats *sleep*")).to_be_visible()


def test_the_menu_of_a_row_is_used_by_keys(page: Page) -> None:
    new_chat(page)
    talk(page, "Are they fast?")
    row(page, "Wombats").focus()
    page.keyboard.press("Tab")
    button = sidebar(page).get_by_role("button", name="Options of Wombats")
    expect(button).to_be_focused()
    expect(button).to_have_css("opacity", "1")
    page.keyboard.press("Enter")
    item = page.get_by_role("menu").get_by_role("menuitem")
    expect(item).to_have_text(["editRename", "keep_offUnpin", "archiveArchive", "deleteDelete"])
    expect(item.nth(0)).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(item.nth(3)).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(item.nth(0)).to_be_focused()
    page.keyboard.press("End")
    expect(item.nth(3)).to_be_focused()
    page.keyboard.press("Escape")
    expect(item).to_have_count(0)
    expect(button).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(item.nth(0)).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    # The row stands below the other now, and the focus with it.
    expect(sidebar(page).get_by_text("Pinned")).to_have_count(0)
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(sidebar(page).get_by_text("Pinned")).to_be_visible()
    expect(button).to_be_focused()

    row(page, "Are they fast?").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowUp")
    expect(item.nth(3)).to_be_focused()
    page.keyboard.press("Tab")
    expect(item).to_have_count(0)
    row(page, "Are they fast?").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(row(page, "Are they fast?")).to_have_count(0)
    expect(button).to_be_focused()


def test_the_sidebar_gives_way_on_a_narrow_page(browser: Browser, page: Page) -> None:
    with browser.new_context(
        viewport={"width": 390, "height": 860},
        has_touch=True,
        storage_state=page.context.storage_state(),
    ) as context:
        phone = context.new_page()
        phone.goto(page.url)
        expect(phone.get_by_placeholder("Message AL-Chat")).to_be_visible()

        def unfold() -> None:
            phone.get_by_test_id("stExpandSidebarButton").click()
            expect(sidebar(phone)).to_have_attribute("data-collapsed", "false")

        unfold()
        row(phone, "Wombats").tap()
        expect(sidebar(phone)).to_have_attribute("data-collapsed", "true")
        heading(phone, "Wombats *sleep*")
        unfold()
        sidebar(phone).get_by_role("button", name="New chat").tap()
        expect(sidebar(phone)).to_have_attribute("data-collapsed", "true")
        expect(answers(phone)).to_have_count(0)
        unfold()
        search = sidebar(phone).get_by_placeholder("Search chats")
        search.press_sequentially("womb")
        hits = sidebar(phone).locator(".st-key-al_chat_hits")
        hits.get_by_role("button").filter(has_text="sleep").tap()
        expect(sidebar(phone)).to_have_attribute("data-collapsed", "true")
        heading(phone, "Wombats *sleep*")
        unfold()
        search.fill("")
        # Nothing points at a row here.
        button = sidebar(phone).get_by_role("button", name="Options of Wombats")
        expect(button).to_have_css("opacity", "1")
        button.tap()
        expect(phone.get_by_role("menuitem", name="Rename")).to_be_visible()
        expect(sidebar(phone)).to_have_attribute("data-collapsed", "false")
        phone.get_by_role("menuitem", name="Delete").tap()
        expect(sidebar(phone)).to_have_attribute("data-collapsed", "true")
        phone.get_by_role("button", name="Undo").tap()
        heading(phone, "Wombats *sleep*")
    # On a wide page it stays.
    row(page, "Wombats").click()
    heading(page, "Wombats *sleep*")
    expect(sidebar(page)).to_have_attribute("data-collapsed", "false")


def test_a_temporary_chat_is_marked_and_in_no_list(page: Page) -> None:
    new_chat(page)
    page.get_by_text("Temporary chat", exact=True).click()
    talk(page, "Between the two of us")
    expect(page.get_by_role("main").get_by_text("Temporary").first).to_be_visible()
    expect(row(page, "Between the two of us")).to_have_count(0)
    new_chat(page)
    expect(page.get_by_role("switch", name="Temporary chat")).not_to_be_checked()


def test_an_answer_elsewhere_is_marked_while_it_is_written_and_until_it_is_read(page: Page) -> None:
    new_chat(page)
    choose_model(page, "stream-160-50")
    ask(page, "Take your time")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    # A menu works during an answer, and the answer goes on.
    choose(page, "Pin")
    expect(sidebar(page).get_by_text("Pinned")).to_be_visible()
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    row(page, "Wombats").click()
    heading(page, "Wombats *sleep*")
    # Nobody touches the page from here on: it notices by itself.
    news = row(page, "Take your time").locator("xpath=.", has=page.get_by_text("mark_chat_unread"))
    expect(news).to_have_count(0)
    expect(news).to_have_count(1)
    row(page, "Take your time").click()
    heading(page, "Take your time")
    expect(answers(page).last).to_contain_text("160")
    row(page, "Wombats").click()
    heading(page, "Wombats *sleep*")
    expect(news).to_have_count(0)


def test_more_chats_come_as_one_scrolls_to_them(browser: Browser, system: System) -> None:
    with open_context(browser) as context:
        page = arrive(context, system, "ruth")
        token = system.user_token("ruth")
        user = AlChatClient(system.alchat_url).as_user(lambda: token)
        for number in range(130):
            user.create_conversation(title=f"Burrow {number}")
        page.reload()
        listed = sidebar(page).locator('[class*="st-key-al_chat_open_"]')
        expect(listed).to_have_count(20)
        page.wait_for_timeout(1500)
        expect(listed).to_have_count(20)
        for count in (100, 130):
            # Scrolling is what a hand would do; nothing is clicked.
            last = listed.last
            last.scroll_into_view_if_needed()
            last.hover()
            page.mouse.wheel(0, 2000)
            expect(listed).to_have_count(count)
        expect(row(page, "Burrow 0")).to_have_count(1)
        expect(page.get_by_role("button", name="Show more")).to_have_count(0)


def test_a_chat_leaves_as_a_file_and_comes_back(page: Page, tmp_path: Path) -> None:
    choose(page, "Duplicate")
    heading(page, "Wombats *sleep* (copy)")
    choose(page, "Export")
    with page.expect_download() as download:
        page.get_by_role("dialog").get_by_role("button", name="JSON").click()
    assert download.value.suggested_filename == "Wombats sleep (copy).json"
    kept = tmp_path / "kept.json"
    download.value.save_as(kept)
    assert json.loads(kept.read_text("utf-8"))["title"] == "Wombats *sleep* (copy)"
    close(page.get_by_role("dialog"))
    choose(page, "Delete")
    expect(row(page, "(copy)")).to_have_count(0)

    sidebar(page).get_by_role("button", name="Manage").click()
    page.get_by_role("button", name="Import chats").click()
    dialog = page.get_by_role("dialog")
    dialog.locator("input[type=file]").set_input_files(kept)
    dialog.get_by_role("button", name="Import", exact=True).click()
    expect(dialog.get_by_text("One chat imported, with 2 messages.")).to_be_visible()
    dialog.get_by_role("button", name="Open the first one").click()
    heading(page, "Wombats *sleep* (copy)")
    expect(answers(page)).to_have_count(2)


def test_a_snapshot_is_read_by_whom_it_is_for_until_it_is_revoked(
    page: Page, browser: Browser, system: System
) -> None:
    system.add_user("ben")
    choose(page, "Share")
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("radio", name="Only some").click()
    names = dialog.get_by_placeholder("ana, jürgen")
    names.fill("ben")
    names.press("Enter")
    dialog.get_by_role("button", name="Share", exact=True).click()
    address = dialog.get_by_test_id("stCode").inner_text().strip()
    assert address.startswith(system.url)

    with open_context(browser) as context:
        other = context.new_page()
        other.goto(address)
        sign_in(other, "ben")
        heading(other, "Wombats *sleep* (copy)")
        expect(answers(other).first).to_contain_text("Where do wombats sleep?")
        expect(other.get_by_placeholder("Message AL-Chat")).to_have_count(0)
        cookie_is_set(other)
        other.get_by_role("button", name="Continue in a chat of my own").click()
        expect(other.get_by_placeholder("Message AL-Chat")).to_be_visible()
        expect(answers(other)).to_have_count(2)

        dialog.get_by_role("button", name="Stop sharing").click()
        expect(dialog.get_by_test_id("stCode")).to_have_count(0)
        other.goto(address)
        expect(other.get_by_text("not shared with you any more")).to_be_visible()
    close(dialog)
