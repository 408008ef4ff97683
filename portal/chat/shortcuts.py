"""Keys for what one does often, and the list of them at `?`."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from portal.components import source
from portal.dialogs import dialog
from portal.session import remembered
from portal.texts import N_, t, translated
from portal.words import table

_KEYS = st.components.v2.component(
    "al_chat_shortcuts", js=source("shortcuts.js"), isolate_styles=False
)
# What the script in `_KEYS` knows, and the button for a new chat.
SHORTCUTS = {
    "Ctrl + Shift + O": N_("New chat"),
    "Ctrl + K": N_("Search chats"),
    "Ctrl + .": N_("Stop the answer"),
    "Shift + Esc": N_("Write a message"),
    "Ctrl + B": N_("Show or hide the sidebar"),
    "?": N_("This list"),
}


@dataclass(slots=True)
class _Asked:
    """Whether the list is to be opened on this run."""

    for_list: bool = False


def show_shortcuts() -> bool:
    """Listens for the keys; True while the list is open over the page."""
    state = remembered(_Asked)
    _KEYS(key="al_chat_shortcuts", height=0, on_list_change=_ask)
    if not state.for_list:
        return False
    state.for_list = False
    _show_list()
    return True


def _ask() -> None:
    remembered(_Asked).for_list = True


@dialog(N_("Keyboard shortcuts"), on_dismiss="rerun", icon=":material/keyboard:")
def _show_list() -> None:
    st.markdown(
        table(
            (t("Keys"), t("What they do")),
            [(keys, translated(what)) for keys, what in SHORTCUTS.items()],
        )
    )
    st.caption(t("On a Mac, Cmd stands for Ctrl."))
