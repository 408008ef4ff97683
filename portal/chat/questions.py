"""A table of one's own questions, to jump to."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import streamlit as st

from alchat_core.client import AlChatError, Message
from papita_core.errors import PapitaError
from portal.chat.earlier import Jump
from portal.chat.view import View, client, problem_of
from portal.chat.window import PLACES, Window, load_page
from portal.session import remembered, tab
from portal.texts import t, tn
from portal.words import plain

KEY = "al_chat_questions"
SEARCH = "al_chat_questions_search"
FROM = 2
SHOWN = 50
LETTERS = 90
# What one request gives, and how far back the table goes.
PAGE, PAGES = 500, 10


@dataclass(slots=True)
class Table:
    """The questions of the branch that ends in `last_id`, the newest first."""

    last_id: str = ""
    items: tuple[tuple[str, str], ...] = field(default_factory=tuple)


def show_questions(view: View) -> None:
    """A popover with the questions; they are asked for when it is opened."""
    asked = sum(message.role == "user" for message in view.messages)
    if asked < FROM and not view.has_earlier:
        return
    with st.popover(
        t("Questions"),
        icon=":material/format_list_bulleted:",
        type="tertiary",
        key=KEY,
        on_change="rerun",
    ) as popover:
        if popover.open:
            _show_table(view)


def _show_table(view: View) -> None:
    try:
        items = _questions(view)
    except (AlChatError, PapitaError) as error:
        st.caption(plain(problem_of(error).sentence))
        return
    words = ""
    if len(items) > 10:
        words = st.text_input(
            t("Search questions"),
            key=SEARCH,
            placeholder=t("Search questions"),
            label_visibility="collapsed",
        ).casefold()
    found = [(key, text) for key, text in items if words in text.casefold()]
    with st.container(gap=None, height=min(36 * max(len(found), 1) + 8, 360), border=False):
        for message_id, text in found[:SHOWN]:
            st.button(
                plain(text[:LETTERS]) or "…",
                key=f"al_chat_question_{message_id}",
                type="tertiary",
                wrap=False,
                on_click=partial(_jump, view, message_id),
            )
        if not found:
            st.caption(t("No question has these words."))
    if len(found) > SHOWN:
        st.caption(tn("{count} more", "{count} more", len(found) - SHOWN))


def _questions(view: View) -> tuple[tuple[str, str], ...]:
    """All questions of the branch, asked for once for as long as nothing is added to it."""
    window, table = remembered(Window), remembered(Table)
    last = view.messages[-1].id if view.messages else ""
    if table.last_id == last:
        return table.items
    messages: list[Message] = [*window.earlier(), *view.messages]
    for _ in range(PAGES):
        if not messages or messages[0].parent_id is None:
            break
        found = client().messages(messages[0].conversation_id, before=messages[0].id, limit=PAGE)
        messages[:0] = found.items
    table.items = tuple(
        (message.id, " ".join(message.content.split())[:LETTERS])
        for message in reversed(messages)
        if message.role == "user"
    )
    table.last_id = last
    return table.items


def _jump(view: View, message_id: str) -> None:
    """Loads what is between, closes the table and brings the question onto the screen."""
    window = remembered(Window)
    at_the_end = any(message.id == message_id for message in view.messages)
    try:
        user = client()
        for _ in range(0 if at_the_end else PLACES):
            if any(message.id == message_id for message in window.earlier()):
                break
            if not load_page(user, view.conversation_id or ""):
                break
    except (AlChatError, PapitaError) as error:
        tab().notice = problem_of(error).sentence
    remembered(Jump).to(message_id)
    st.session_state[KEY] = False
