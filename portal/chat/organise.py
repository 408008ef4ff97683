"""What one does with a whole conversation: rename, pin, sort, archive, duplicate, delete, undo."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from alchat_core.client import AlChatError, Conversation, NotFound
from papita_core.errors import PapitaError
from portal.chat.actions import open_conversation
from portal.chat.shelves import UNDO_SECONDS, Deleted, shelves
from portal.chat.view import QUERY, client, problem_of
from portal.dialogs import close_when_done
from portal.session import tab
from portal.texts import t
from portal.words import plain


def attempt(work: Callable[[], None]) -> bool:
    """Does it; what goes wrong is said at the next run. Whether it was done."""
    try:
        work()
    except (AlChatError, PapitaError) as error:
        tab().notice = problem_of(error).sentence
        return False
    return True


def change(conversation_id: str, **fields: Any) -> bool:
    def work() -> None:
        shelves().changed(client().update_conversation(conversation_id, **fields))

    return attempt(work)


def duplicate(conversation: Conversation) -> None:
    """Opens a copy of the active branch."""

    def work() -> None:
        title = t("{title} (copy)", title=conversation.title or t("New chat"))[:200]
        made = client().copy_conversation(conversation.id, title=title)
        shelves().until = 0.0
        open_conversation(made.id)

    attempt(work)


def delete(conversation: Conversation) -> None:
    """Deletes it, and offers to take that back where AL-Chat can."""

    def work() -> None:
        client().delete_conversation(conversation.id)
        is_open = conversation.id == st.query_params.get(QUERY)
        if is_open:
            open_conversation(None)
        state = shelves()
        state.forget_lists()
        state.deleted = None
        if conversation.temporary:
            tab().notice = t("Deleted.")
        else:
            title = conversation.title or t("New chat")
            until = time.monotonic() + UNDO_SECONDS
            state.deleted = Deleted(conversation.id, title, until, was_open=is_open)

    attempt(work)


def show_deleted() -> None:
    """The quiet bar with which a deletion is taken back."""
    state = shelves()
    deleted = state.deleted
    if deleted is None:
        return
    if time.monotonic() > deleted.until:
        state.deleted = None
        return
    with st.container(horizontal=True, vertical_alignment="center", key="al_chat_deleted"):
        st.markdown(
            t(":material/delete: Deleted *{title}*", title=plain(deleted.title)), width="content"
        )
        st.button(
            t("Undo"),
            icon=":material/undo:",
            key="al_chat_undo",
            on_click=_undo,
            args=(deleted,),
        )
        st.button(
            "",
            icon=":material/close:",
            help=t("Close"),
            type="tertiary",
            key="al_chat_undo_close",
            on_click=_let_go,
        )


def _undo(deleted: Deleted) -> None:
    state = shelves()
    state.deleted = None

    def work() -> None:
        try:
            restored = client().restore_conversation(deleted.conversation_id)
            if deleted.was_open:
                open_conversation(restored.id)
        except NotFound:
            tab().notice = t("It is too late to take this back.")
        state.forget_lists()

    attempt(work)


def _let_go() -> None:
    shelves().deleted = None


def _finish(conversation_id: str, **fields: Any) -> None:
    change(conversation_id, **fields)
    tab().dialog_done = True


def rename(conversation: Conversation) -> None:
    @st.dialog(t("Rename chat"), on_dismiss="rerun")
    def show() -> None:
        close_when_done()
        with st.form("al_chat_rename", border=False):
            st.text_input(
                t("Title"), value=conversation.title or "", key="al_chat_title", max_chars=200
            )
            st.form_submit_button(
                t("Save"), type="primary", on_click=_save_title, args=(conversation,)
            )

    show()


def _save_title(conversation: Conversation) -> None:
    title = str(st.session_state.get("al_chat_title") or "").strip()
    if title:
        _finish(conversation.id, title=title)


def move(conversation: Conversation) -> None:
    """Into a folder that there is or a new one, or out of the one that it is in."""

    @st.dialog(t("Move to a folder"), on_dismiss="rerun")
    def show() -> None:
        close_when_done()
        names = _names([shelf.name for shelf in shelves().folders], [conversation.folder])
        st.selectbox(
            t("Folder"),
            names,
            index=names.index(conversation.folder) if conversation.folder else None,
            placeholder=t("Choose one or type a new name"),
            accept_new_options=True,
            key="al_chat_folder",
        )
        with st.container(horizontal=True):
            st.button(
                t("Move"),
                type="primary",
                key="al_chat_move",
                on_click=_save_folder,
                args=(conversation,),
            )
            if conversation.folder:
                st.button(
                    t("Take out of {folder}", folder=plain(conversation.folder)),
                    key="al_chat_move_out",
                    on_click=_finish,
                    args=(conversation.id,),
                    kwargs={"folder": None},
                )

    show()


def _save_folder(conversation: Conversation) -> None:
    name = str(st.session_state.get("al_chat_folder") or "").strip()[:100]
    if name:
        _finish(conversation.id, folder=name)


def tag(conversation: Conversation) -> None:
    """Each change counts at once."""

    @st.dialog(t("Tags"), on_dismiss="rerun")
    def show() -> None:
        names = _names([shelf.name for shelf in shelves().tags], conversation.tags)
        st.multiselect(
            t("Tags"),
            names,
            default=list(conversation.tags),
            placeholder=t("Choose some or type new ones"),
            accept_new_options=True,
            max_selections=20,
            label_visibility="collapsed",
            key="al_chat_tags",
            on_change=_save_tags,
            args=(conversation,),
        )

    show()


def _save_tags(conversation: Conversation) -> None:
    given = st.session_state.get("al_chat_tags") or ()
    tags = [name for item in given if (name := str(item).strip()[:50])]
    change(conversation.id, tags=tags)


def _names(known: Sequence[str], own: Sequence[str | None]) -> list[str]:
    return list(dict.fromkeys([*known, *(name for name in own if name)]))
