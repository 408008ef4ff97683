"""The sidebar of the chat page: a new chat, search, and the conversations there are."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

import streamlit as st

from alchat_core.client import AlChatError, Conversation
from papita_core.errors import PapitaError
from portal.chat.actions import open_conversation
from portal.chat.finding import SEARCH, show_hits, show_more, show_what_is_listed
from portal.chat.follow import moved_on
from portal.chat.rows import show_row_menus
from portal.chat.shelves import groups, shelves
from portal.chat.view import CONVERSATIONS, View, client, problem_of
from portal.frame import page_sidebar
from portal.session import tab
from portal.texts import t, tn
from portal.words import plain

# How often an idle page looks for what has changed elsewhere: while an answer is being written in
# another conversation, and otherwise.
BUSY_SECONDS = 3.0
IDLE_SECONDS = 10.0
MORE: Final = 80
IN_FOLDER: Final = 40
HEIGHT: Final = 420
AT_ONCE: Final = 9

_telling = ThreadPoolExecutor(max_workers=4, thread_name_prefix="read")


def show_conversations(view: View) -> None:
    """The sidebar, drawn anew by itself when an answer elsewhere has ended.

    As a fragment it is, but not while an answer is being followed: that would keep it waiting.
    """
    state = shelves()
    state.leave = False
    with page_sidebar():
        st.button(
            t("New chat"),
            icon=":material/edit_square:",
            width="stretch",
            key="al_chat_new",
            shortcut="Ctrl+Shift+O",
            on_click=open_conversation,
            args=(None,),
        )
        if view.active is not None:
            with st.container():  # as deep as a fragment is, so that all of it stays where it is
                _show(view)
        else:
            busy = any(one.active_run_id for one in view.conversations)
            st.fragment(_show, run_every=BUSY_SECONDS if busy else IDLE_SECONDS)(view)


def _show(view: View) -> None:
    state = shelves()
    if state.leave:
        state.leave = False
        st.rerun(scope="app")
    if not state.fresh:
        _look()
        if not tab().covered and moved_on(view, state.first):
            st.rerun(scope="app")
    state.fresh = False
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center"):
        words = st.text_input(
            t("Search chats"),
            key=SEARCH,
            type="search",
            # A duration in words would make Streamlit load pandas: half a second and 45 MB.
            live=True,
            icon=":material/search:",
            placeholder=t("Search chats"),
            label_visibility="collapsed",
        )
        chosen = show_more(searching=bool(words))
    here = view.conversation_id
    if words and words.strip():
        with st.container(gap="xsmall", key="al_chat_hits"):
            show_hits(words.strip(), chosen, on_open=_open)
    else:
        _show_list(here)
    show_row_menus()


def _show_list(here: str | None) -> None:
    state = shelves()
    listed = state.listed
    with st.container(
        gap=None,
        key="al_chat_conversations",
        height=HEIGHT if len(listed) > AT_ONCE else "content",
        border=False,
    ):
        if state.filtered:
            show_what_is_listed()
            if not listed:
                st.caption(t("No chats here."))
        else:
            _show_folders(here)
            listed = tuple(one for one in listed if one.folder is None or one.pinned)
        for group in groups(listed):
            st.caption(plain(group.heading))
            for one in group.conversations:
                _show_row(one, here=one.id == here)
        if state.cursor is not None:
            st.button(t("Show more"), key="al_chat_show_more", type="tertiary", on_click=_show_more)


def _show_row(one: Conversation, *, here: bool, within: str = "") -> None:
    title = plain(one.title or t("New chat"))
    icon = note = None
    if one.active_run_id:
        icon, note = "spinner", t("An answer is being written")
    elif one.unread and not here:
        icon, note = ":material/mark_chat_unread:", t("A new answer")
    st.button(
        f"**{title}**" if here or icon == ":material/mark_chat_unread:" else title,
        icon=icon,
        help=note,
        key=f"al_chat_open_{within}{one.id}",
        type="tertiary",
        wrap=False,
        on_click=_open,
        args=(one.id,),
    )


def _show_folders(here: str | None) -> None:
    """Each opens and closes; what is in it is asked for when it is opened."""
    state = shelves()
    for number, folder in enumerate(state.folders):
        group = st.expander(
            plain(folder.name),
            icon=":material/folder:",
            type="compact",
            key=f"al_chat_folder_{number}_{folder.name}",
            on_change="rerun",
        )
        if not group.open:
            continue
        with group, st.container(gap=None):
            for one in _in_folder(folder.name):
                _show_row(one, here=one.id == here, within="f_")
            if folder.conversations > IN_FOLDER:
                left = folder.conversations - IN_FOLDER
                st.caption(tn("{count} more: search for it", "{count} more: search for them", left))


def _in_folder(name: str) -> tuple[Conversation, ...]:
    state = shelves()
    if name not in state.opened:
        try:
            state.opened[name] = client().conversations(folder=name, limit=IN_FOLDER).items
        except (AlChatError, PapitaError) as error:
            st.caption(plain(problem_of(error).sentence))
            return ()
    return state.opened[name]


def _look() -> None:
    """A look that nobody has caused: it does not keep an idle session alive."""
    state = shelves()
    try:
        user = client(seen=False)
        before = _marks(state.first)
        state.put_first(user.conversations(limit=CONVERSATIONS, **state.filters))
        if _marks(state.first) != before:
            state.opened.clear()
        if state.stale:
            state.put_folders(user.folders(), user.tags())
    except (AlChatError, PapitaError):
        # What is known stays; the page itself will say what is wrong.
        return


def _marks(conversations: tuple[Conversation, ...]) -> list[tuple[str, str | None, bool]]:
    return [(one.id, one.active_run_id, one.unread) for one in conversations]


def _show_more() -> None:
    state = shelves()
    try:
        state.put_more(client().conversations(cursor=state.cursor, limit=MORE, **state.filters))
        state.fresh = True
    except (AlChatError, PapitaError) as error:
        tab().notice = problem_of(error).sentence
        state.leave = True


def _open(conversation_id: str, message_id: str | None = None) -> None:
    open_conversation(conversation_id)
    state = shelves()
    state.leave, state.jump = True, message_id


def tell_what_was_read(view: View) -> None:
    """Tells AL-Chat that the last answer was on the screen to its end, once, without waiting."""
    state = shelves()
    if view.active is not None and view.active.run is not None:
        state.watched = view.active.run.id
        return
    last = view.messages[-1] if view.messages else None
    if last is None or last.run is None or last.run.id == state.read:
        return
    unread = view.conversation is not None and view.conversation.unread
    if unread or last.run.id == state.watched:
        state.read = last.run.id
        _telling.submit(client().mark_read, last.run.id)
