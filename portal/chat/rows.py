"""The menu at each row of the history: what one does with a conversation without opening it.

The rows are buttons and no more. One component gives each its menu, in the browser, where it finds
them by their keys; it also closes the sidebar where that covers the page.
"""

from __future__ import annotations

from typing import Any, Final

import streamlit as st

from portal.chat import organise
from portal.chat.shelves import shelves
from portal.chat.view import QUERY, client
from portal.components import Component, source
from portal.texts import t

ROWS: Final = "al_chat_rows"
# What it shows changes seldom, so its script can go along with that.
_ROWS = Component(ROWS, source("rows.js"), isolate_styles=False)
_CHANGES: Final[dict[str, dict[str, bool]]] = {
    "pin": {"pinned": True},
    "unpin": {"pinned": False},
    "archive": {"archived": True},
    "unarchive": {"archived": False},
}


def show_row_menus() -> None:
    """After the rows, in the same fragment."""
    state = shelves()
    words = {
        "options": t("Options of {title}", title="{title}"),
        "rename": t(":material/edit: Rename"),
        "pin": t(":material/keep: Pin"),
        "unpin": t(":material/keep_off: Unpin"),
        "archive": t(":material/archive: Archive"),
        "unarchive": t(":material/unarchive: Unarchive"),
        "delete": t(":material/delete: Delete"),
    }
    data = {
        "words": words,
        "pinned": sorted(one.id for one in state.known() if one.pinned),
        "archived": state.archived,
    }
    _ROWS(key=ROWS, height=0, data=data, on_act_change=_act)


def _act() -> None:
    chosen: dict[str, Any] = getattr(st.session_state.get(ROWS), "act", None) or {}
    name, conversation_id = chosen.get("name"), str(chosen.get("conversation"))
    state = shelves()
    # A dialog, and what is said of a deletion or a failure, are not in the sidebar.
    state.leave = True
    if name in _CHANGES:
        done = organise.change(conversation_id, **_CHANGES[name])
        state.leave = not done or conversation_id == st.query_params.get(QUERY)
        return

    def work() -> None:
        found = (one for one in state.known() if one.id == conversation_id)
        one = next(found, None) or client().conversation(conversation_id)
        if name == "rename":
            state.dialog, state.about = "rename", one
        elif name == "delete":
            organise.delete(one)

    organise.attempt(work)
