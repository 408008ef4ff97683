"""The latest conversations on the dashboard, and the answers that are being written."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from dataclasses import dataclass, field

import streamlit as st

from alchat_core.client import AlChatError, Conversation, UserClient
from papita_core.errors import PapitaError
from portal import navigation
from portal.chat.view import QUERY, client
from portal.dashboard.health import LastAnswer
from portal.session import remembered, require_user
from portal.texts import t
from portal.words import ago, plain

SHOWN = 5
TICK_SECONDS = 5
PATIENCE_SECONDS = 3.0
AT_ONCE_SECONDS = 0.15

_asking = ThreadPoolExecutor(max_workers=8, thread_name_prefix="dashboard")


@dataclass(frozen=True, slots=True)
class Latest:
    """What AL-Chat said. `failed`: it said nothing."""

    conversations: Sequence[Conversation] = ()
    last_answer: LastAnswer | None = None
    failed: bool = False


@dataclass(slots=True)
class Recent:
    """What this tab knows; an answer of AL-Chat that came too late is shown with the next look."""

    latest: Latest | None = None
    asked: Future[Latest] | None = field(default=None, repr=False)


def _ask(user: UserClient) -> Latest:
    try:
        found = user.conversations(limit=SHOWN).items
        written = [item for item in found if item.active_run_id is None]
        newest = max(written, key=lambda item: item.last_message_at, default=None)
        return Latest(found, None if newest is None else _last_answer(user, newest.id))
    except (AlChatError, PapitaError):
        return Latest(failed=True)


def _last_answer(user: UserClient, conversation_id: str) -> LastAnswer | None:
    for message in reversed(user.messages(conversation_id, limit=4).items):
        if message.error is not None:
            return LastAnswer(message.created_at, message.error.code, message.error.message)
        if message.run is not None and message.run.state == "completed":
            return LastAnswer(message.created_at)
    return None


def last_answer() -> LastAnswer | None:
    """How the latest answer ended, as far as this tab has heard."""
    latest = remembered(Recent).latest
    return None if latest is None else latest.last_answer


@st.fragment(run_every=TICK_SECONDS)
def show_recent() -> None:
    """The list, looked at again every few seconds. A skeleton stands for it until it is there."""
    require_user("projects:launch", seen=False)
    state = remembered(Recent)
    if state.asked is None:
        state.asked = _asking.submit(_ask, client())
    place = st.empty()
    if not _arrived(state, AT_ONCE_SECONDS) and state.latest is None:
        place.skeleton(height=150)
        _arrived(state, PATIENCE_SECONDS)
    if state.latest is not None:
        with place.container(key="dashboard_recent", gap="xsmall"):
            _draw(state.latest)


def _arrived(state: Recent, seconds: float) -> bool:
    if state.asked is None:
        return True
    try:
        state.latest = state.asked.result(timeout=seconds)
    except TooLate:
        return False
    state.asked = None
    return True


def _draw(latest: Latest) -> None:
    st.subheader(t("Recent conversations"), anchor=False)
    if latest.failed:
        st.caption(t("They are shown here while AL-Chat runs."))
        return
    if not latest.conversations:
        st.caption(t("None yet. Open AL-Chat and ask something."))
        return
    for conversation in latest.conversations:
        writing = conversation.active_run_id is not None
        with st.container(
            horizontal=True,
            vertical_alignment="center",
            horizontal_alignment="distribute",
            wrap=False,
        ):
            st.page_link(
                navigation.page("al-chat"),
                label=plain(conversation.title or t("New chat")),
                icon=":material/edit_note:" if writing else ":material/chat_bubble:",
                query_params={QUERY: conversation.id},
                width="stretch",
            )
            if writing:
                st.caption(t(":shimmer[Being written …]"), width="content")
            else:
                st.caption(ago(conversation.last_message_at), width="content")
