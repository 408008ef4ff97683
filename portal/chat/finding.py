"""Search as one types: titles and messages, with the words marked and a few filters."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import streamlit as st

from alchat_core.client import AlChatError, Hit, SnippetPart
from papita_core.errors import PapitaError
from portal.chat.earlier import Jump
from portal.chat.shelves import shelves
from portal.chat.view import View, client, problem_of
from portal.chat.window import Window, load_page
from portal.session import remembered
from portal.texts import t
from portal.words import plain

SEARCH: Final = "al_chat_search"
MANAGE: Final = "al_chat_manage"
HITS: Final = 20
SNIPPETS: Final = 2
PAGES_BACK: Final = 8
SNIPPET_CHARS: Final = 110
_MARKUP: Final = re.compile(r"[`*_#|>~]+")


@dataclass(frozen=True, slots=True)
class Chosen:
    """What narrows a search. None: everywhere, at any time."""

    folder: str | None = None
    days: int | None = None


def show_more(*, searching: bool) -> Chosen:
    """Beside the search: which conversations are listed, where and how far back is searched, and
    what one does with all of them.
    """
    state = shelves()
    chosen = Chosen()
    popover = st.popover(
        t("Manage"),
        type="tertiary",
        key=MANAGE,
        on_change="rerun",
    )
    with popover:
        state.archived = st.toggle(
            t("Archived"),
            value=state.archived,
            key=f"al_chat_archived_{state.turn}",
            on_change=_list_anew,
        )
        if state.tags or state.tag:
            names = [shelf.name for shelf in state.tags]
            if state.tag and state.tag not in names:
                names.append(state.tag)
            st.pills(
                t("Tags"),
                names,
                default=state.tag,
                format_func=plain,
                key=f"al_chat_tag_{state.turn}",
                on_change=_list_anew,
            )
        if searching:
            folder = None
            if state.folders:
                folder = st.selectbox(
                    t("Folder"),
                    [shelf.name for shelf in state.folders],
                    index=None,
                    placeholder=t("Any"),
                    key="al_chat_search_folder",
                )
            days = st.selectbox(
                t("When"),
                tuple(_periods()),
                index=None,
                format_func=lambda days: _periods()[days],
                placeholder=t("Any time"),
                key="al_chat_search_days",
            )
            chosen = Chosen(folder, days)
        st.button(
            t("Import chats"),
            icon=":material/upload:",
            type="tertiary",
            key="al_chat_import_all",
            on_click=_ask_for,
            args=("import",),
        )
        st.button(
            t("Export all chats"),
            icon=":material/download:",
            type="tertiary",
            key="al_chat_export_all",
            on_click=_ask_for,
            args=("export-all",),
        )
    return chosen


def _ask_for(dialog: str) -> None:
    state = shelves()
    state.dialog, state.leave = dialog, True
    # It would stand over the dialog.
    st.session_state[MANAGE] = False


def _periods() -> dict[int, str]:
    return {7: t("Last 7 days"), 30: t("Last 30 days"), 365: t("Last 12 months")}


def show_what_is_listed() -> None:
    """That not all conversations are listed, and the way back to all of them."""
    state = shelves()
    names = [name for name in (t("Archived") if state.archived else None, state.tag) if name]
    st.button(
        plain(" · ".join(names)),
        icon=":material/filter_alt_off:",
        help=t("Show all chats"),
        key="al_chat_list_all",
        on_click=_list_all,
    )


def _list_all() -> None:
    state = shelves()
    state.archived, state.tag = False, None
    state.more, state.more_cursor = (), None
    state.fresh = False
    # What was chosen in the browser does not come back.
    state.turn += 1


def _list_anew() -> None:
    state = shelves()
    state.archived = bool(st.session_state.get(f"al_chat_archived_{state.turn}"))
    state.tag = st.session_state.get(f"al_chat_tag_{state.turn}")
    state.more, state.more_cursor = (), None
    state.fresh = False


def show_hits(words: str, chosen: Chosen, *, on_open: Callable[..., None]) -> None:
    """What was found, newest first; a click opens the conversation."""
    state = shelves()
    since = datetime.now(UTC) - timedelta(days=chosen.days) if chosen.days else None
    try:
        hits = (
            client()
            .search(
                words,
                limit=HITS,
                folder=chosen.folder,
                tag=state.tag,
                archived=True if state.archived else None,
                since=since,
            )
            .items
        )
    except (AlChatError, PapitaError) as error:
        st.caption(plain(problem_of(error).sentence))
        return
    if not hits:
        st.caption(t("Nothing found."))
    found: dict[str, list[Hit]] = {}
    for hit in hits:
        found.setdefault(hit.conversation_id, []).append(hit)
    for conversation_id, here in found.items():
        with st.container(gap=None):
            title = next((hit.snippet for hit in here if not hit.message_id), None)
            st.button(
                marked(title) if title else plain(here[0].title),
                key=f"al_chat_hit_{conversation_id}",
                type="tertiary",
                wrap=False,
                on_click=on_open,
                args=(
                    conversation_id,
                    next((hit.message_id for hit in here if hit.message_id), None),
                ),
            )
            for hit in [hit for hit in here if hit.message_id][:SNIPPETS]:
                st.caption(marked(hit.snippet))


def go_to_the_hit(view: View) -> None:
    """Brings the message onto the screen for which the conversation was opened, where it is not
    too far up.
    """
    state = shelves()
    message_id, state.jump = state.jump, None
    if message_id is None or view.conversation_id is None:
        return
    window = remembered(Window)
    with contextlib.suppress(AlChatError, PapitaError):
        user = client()
        for _ in range(PAGES_BACK):
            if any(one.id == message_id for one in (*view.messages, *window.earlier())):
                break
            if not load_page(user, view.conversation_id):
                break
    remembered(Jump).to(message_id)


def marked(snippet: Sequence[SnippetPart], longest: int = SNIPPET_CHARS) -> str:
    """The snippet as Markdown, its hits marked; not much longer than that many characters."""
    parts, length = [], 0
    for part in snippet:
        text = _MARKUP.sub("", part.text)[: longest - length]
        if not text:
            continue
        length += len(text)
        shown = plain(text)
        if not shown:
            parts.append(" ")
            continue
        before = " " if text[0].isspace() else ""
        after = " " if text[-1].isspace() else ""
        parts.append(
            f"{before}:orange-background[{shown}]{after}" if part.hit else before + shown + after
        )
    return "".join(parts).strip() + ("…" if length >= longest else "")
