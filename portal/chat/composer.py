"""The input of the chat page, above it what waits, and below it the model and `Stop`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st

from portal.chat import comparing, library, settings, tool_servers
from portal.chat.actions import INPUT, cancel_queued, edit_queued, send, send_queued, stop
from portal.chat.attachments import MEGABYTES
from portal.chat.choices import Prices
from portal.chat.dictation import show_dictation
from portal.chat.drafts import asked_assistant, keep_draft
from portal.chat.follow import show_that_it_is_written
from portal.chat.models import choose_model
from portal.chat.questions import show_questions
from portal.chat.queued import queue
from portal.chat.view import View
from portal.session import SignedIn, remembered
from portal.texts import t
from portal.words import typed

STYLE = """<style>
.st-key-al_chat_stop { display: none; }
</style>"""


@dataclass(slots=True)
class _Drawn:
    """The most messages that waited at once in this tab."""

    most: int = 0


def show_input() -> bool:
    """The input. True while it takes dictation, too."""
    dictated = remembered(Prices).transcribes
    # Not within `st.bottom`: only where Streamlit puts it itself does the page keep to its end.
    st.chat_input(
        t("Message AL-Chat"),
        key=INPUT,
        accept_file="multiple",
        accept_audio=dictated,
        max_upload_size=MEGABYTES,
        on_submit=send,
    )
    return dictated


def show_composer(user: SignedIn, view: View) -> bool:
    """What stands above the input, and below it the model and `Stop`.

    Their places never change: a draft stays. True while a dialog is open over the page.
    """
    with st.container(key="al_chat_before_input"):
        _show_queued(view)
        library.show_assistant(view)
        comparing.show_compared(view)
        show_dictation(view)
        if view.active is not None:
            show_that_it_is_written()
    with (
        st.bottom,
        st.container(
            horizontal=True,
            vertical_alignment="center",
            horizontal_alignment="distribute",
            gap="xsmall",
            wrap=False,
        ),
    ):
        choose_model(view)
        # Here and not in the header, which is far away at the end of a long conversation.
        show_questions(view)
        opened = _menu(view)
        # Always there, since an answer may be drawn before the page is; seen while one is written.
        st.button(
            t("Stop"),
            icon=":material/stop_circle:",
            key="al_chat_stop",
            on_click=stop,
            args=([one.run.id for one in view.writing if one.run],),
        )
    with st.bottom:
        st.html(STYLE)
        keep_draft(user, view, _asked_assistant)
    if opened is not None:
        opened()
    return opened is not None


def _menu(view: View) -> Callable[[], None] | None:
    """What is to be opened over the page."""
    entries: dict[str, Callable[[], None]] = {
        "settings": lambda: settings.open_settings(view),
        "compare": lambda: comparing.open_comparing(view),
        "library": library.open_library,
        "tools": tool_servers.open_tool_servers,
    }
    words = {
        "settings": t(":material/tune: Settings of this chat"),
        "compare": t(":material/compare: Compare models"),
        "library": t(":material/auto_awesome: Prompts and assistants"),
        "tools": t(":material/build: Tool servers"),
    }
    key = "al_chat_settings_menu"

    def begin() -> None:
        chosen = st.session_state.get(key)
        if chosen == "settings":
            settings.begin(view)
        elif chosen == "library":
            library.begin()
        elif chosen == "tools":
            tool_servers.begin()

    choice = st.menu_button(
        t("Settings"),
        list(entries),
        format_func=lambda name: words[name],
        type="tertiary",
        key=key,
        on_click=begin,
    )
    return entries.get(choice) if choice is not None else None


def _asked_assistant() -> None:
    chosen = asked_assistant()
    if chosen is not None:
        library.use(chosen)


def _show_queued(view: View) -> None:
    """What was written while an answer was, with a way to take it back."""
    waiting, drawn = queue().of(view.conversation_id), remembered(_Drawn)
    # While an answer is followed, only what is drawn over goes away: so there is always a place
    # for as many as there ever were.
    drawn.most = max(drawn.most, len(waiting))
    places = [st.empty() for _ in range(drawn.most)]
    for place, message in zip(places, waiting, strict=False):
        key = message.idempotency_key
        args = (view.conversation_id, key)
        with place.container(border=True, gap="xsmall", key=f"al_chat_queued_{key}"):
            st.markdown(typed(message.text))
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.caption(
                    t(":material/schedule: Queued: sent when the answer is complete.")
                    if view.active is not None
                    else t(":material/schedule: Not sent, since the answer is not complete."),
                    width="stretch",
                )
                if view.active is None:
                    st.button(
                        t("Send now"),
                        icon=":material/send:",
                        type="tertiary",
                        key=f"al_chat_queue_send_{key}",
                        on_click=send_queued,
                        args=args,
                    )
                st.button(
                    t("Take back"),
                    icon=":material/undo:",
                    type="tertiary",
                    key=f"al_chat_queue_edit_{key}",
                    on_click=edit_queued,
                    args=args,
                )
                st.button(
                    t("Do not send"),
                    icon=":material/close:",
                    type="tertiary",
                    key=f"al_chat_queue_cancel_{key}",
                    on_click=cancel_queued,
                    args=args,
                )
