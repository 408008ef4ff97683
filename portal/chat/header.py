"""Title and menu of the conversation, and the dialogs that the menus open."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from alchat_core.client import Conversation
from portal.chat import organise, sharing, transfers
from portal.chat.choices import choices
from portal.chat.finding import go_to_the_hit
from portal.chat.shelves import shelves
from portal.chat.view import View
from portal.texts import t
from portal.words import plain

MENU = "al_chat_menu"


def show_header(view: View) -> bool:
    """Title and menu of the conversation; True while a dialog is open over the page."""
    go_to_the_hit(view)
    organise.show_deleted()
    conversation = view.conversation
    with st.container(
        horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"
    ):
        st.subheader(plain(view.title), anchor=False, width="content")
        if conversation is not None:
            with st.container(
                horizontal=True,
                vertical_alignment="center",
                horizontal_alignment="right",
                gap="xsmall",
                width="content",
            ):
                _show_marks(conversation)
                options = _options(conversation)
                st.menu_button(
                    t("Options"),
                    tuple(options),
                    format_func=lambda what: options[what],
                    type="tertiary",
                    key=MENU,
                    on_click=_chosen,
                    args=(conversation,),
                )
        elif view.conversation_id is None:
            st.toggle(
                t("Temporary chat"),
                key=choices().temporary,
                help=t(
                    "It is in no list and no search, and is deleted an hour after its last use."
                ),
            )
    return _open_dialog(conversation)


def _show_marks(conversation: Conversation) -> None:
    if conversation.temporary:
        st.badge(
            t("Temporary"),
            icon=":material/visibility_off:",
            color="orange",
            help=t("It is in no list and no search, and is deleted an hour after its last use."),
        )
    if conversation.archived:
        st.badge(t("Archived"), icon=":material/archive:", color="gray")
    if conversation.folder:
        st.badge(plain(conversation.folder), icon=":material/folder:", color="gray")
    for name in conversation.tags:
        st.badge(plain(name), icon=":material/sell:", color="gray")


def _options(conversation: Conversation) -> dict[str, str]:
    """What can be done with it, by what it is called in the menu."""
    rename = t(":material/edit: Rename")
    duplicate = t(":material/content_copy: Duplicate")
    export = t(":material/download: Export")
    delete = t(":material/delete: Delete")
    if conversation.temporary:
        return {"rename": rename, "duplicate": duplicate, "export": export, "delete": delete}
    return {
        "rename": rename,
        "pin": t(":material/keep_off: Unpin") if conversation.pinned else t(":material/keep: Pin"),
        "move": t(":material/folder: Move to a folder"),
        "tag": t(":material/sell: Tags"),
        "duplicate": duplicate,
        "share": t(":material/share: Share"),
        "export": export,
        "archive": (
            t(":material/unarchive: Unarchive")
            if conversation.archived
            else t(":material/archive: Archive")
        ),
        "delete": delete,
    }


def _chosen(conversation: Conversation) -> None:
    """What needs no more words is done at once; for the rest a dialog opens."""
    what = st.session_state[MENU]
    if what == "pin":
        organise.change(conversation.id, pinned=not conversation.pinned)
    elif what == "archive":
        organise.change(conversation.id, archived=not conversation.archived)
    elif what == "duplicate":
        organise.duplicate(conversation)
    elif what == "delete":
        organise.delete(conversation)
    else:
        shelves().dialog = what


_OF_ONE: dict[str, Callable[[Conversation], None]] = {
    "rename": organise.rename,
    "move": organise.move,
    "tag": organise.tag,
    "share": sharing.share,
    "export": transfers.export,
}
_OF_ALL: dict[str, Callable[[], None]] = {
    "import": transfers.bring_in,
    "export-all": transfers.export_all,
}


def _open_dialog(conversation: Conversation | None) -> bool:
    state = shelves()
    what, state.dialog = state.dialog, None
    about, state.about = state.about or conversation, None
    if what is None:
        return False
    if what in _OF_ALL:
        _OF_ALL[what]()
        return True
    if what in _OF_ONE and about is not None:
        _OF_ONE[what](about)
        return True
    return False
