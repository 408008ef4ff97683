"""The earlier messages of a long conversation: a page at a time, as one goes up.

Each page has its place before it is there and is a fragment of its own, so that nothing else is
drawn anew when it comes, but what the bars of all messages show.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import streamlit as st

from alchat_core.client import AlChatError, Message
from papita_core.errors import PapitaError
from portal.chat.steering import Steering
from portal.chat.toolbar import redraw_if_wanted, show_bar_states
from portal.chat.view import View, client, problem_of
from portal.chat.window import PLACES, Window, has_page, load_page
from portal.components.messages import watch_list
from portal.session import remembered, tab
from portal.texts import t

Draw = Callable[[Message], None]
WATCH = "al_chat_watch"


@dataclass(slots=True)
class Jump:
    """The message to bring onto the screen; `n` counts, since one may want to go there twice."""

    message_id: str = ""
    n: int = 0

    def to(self, message_id: str) -> None:
        self.message_id, self.n = message_id, self.n + 1


def show_earlier(view: View, draw: Draw) -> None:
    """What watches over the list, and the pages that have been loaded."""
    if view.active is None:
        st.fragment(_watch_alone, key=WATCH)(view)
    else:
        with st.container():
            _watch(view)
    if not view.has_earlier:
        return
    for number in reversed(range(PLACES)):
        if view.active is None:
            st.fragment(_page, key=_page_key(number))(number, draw)
        else:
            with st.container():
                _page(number, draw)


def _watch_alone(view: View) -> None:
    redraw_if_wanted()
    _watch(view)


def _watch(view: View) -> None:
    window = remembered(Window)
    more = view.has_earlier and has_page(window)
    jump = remembered(Jump)
    load = partial(_load, view.conversation_id or "", alone=view.active is None)
    watch_list(
        more=more,
        state=f"{window.first_id}-{window.turn}-{len(window.pages)}",
        go={"id": jump.message_id, "n": jump.n} if jump.message_id else None,
        on_reached=load,
    )
    if more:
        st.button(
            t("Show earlier messages"),
            icon=":material/expand_less:",
            type="tertiary",
            key="al_chat_earlier",
            on_click=load,
        )
    elif view.has_earlier:
        st.empty()
    show_bar_states(view)


def _page(number: int, draw: Draw) -> None:
    pages = remembered(Window).pages
    if number < len(pages):
        for message in pages[number]:
            draw(message)


def _page_key(number: int) -> str:
    return f"al_chat_page_{number}"


def _load(conversation_id: str, *, alone: bool) -> None:
    """One page more. Of fragments only that page is drawn, and what watches."""
    try:
        loaded = load_page(client(), conversation_id)
    except (AlChatError, PapitaError) as error:
        tab().notice = problem_of(error).sentence
        remembered(Steering).redraw = True
        return
    if alone and loaded:
        st.rerun((WATCH, _page_key(len(remembered(Window).pages) - 1)))
