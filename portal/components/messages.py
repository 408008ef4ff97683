"""The bars below the messages, and what watches over the list of them.

Copying, reading aloud, words to a thumb and going up in a long conversation happen in the browser.
The bars of all messages are one component: a widget for each, or eight native elements, would cost
more than the messages. A message only brings a place, which the script in the page fills.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from html import escape
from typing import Any, Final, Literal

import streamlit as st

from portal.components import Component, source
from portal.texts import t

BARS: Final = "al_chat_bar_states"

_BAR_JS = source("message_bar.js")
# A browser keeps an element that was defined; another version of it has another name.
_TAG: Final = f"al-chat-bar-{sha256(_BAR_JS.encode()).hexdigest()[:8]}"
_BARS = Component(BARS, _BAR_JS.replace("AL-CHAT-BAR", _TAG), isolate_styles=False)
_LIST = Component(
    "al_chat_message_list",
    source("message_list.js"),
    isolate_styles=False,
)


def bar_place(message_id: str, kind: Literal["question", "answer"], text: str) -> None:
    """Where the bar of a message is to stand, and the text that it copies and reads aloud."""
    st.html(
        f'<div class="al-chat-bar" style="min-height:30px" data-message="{escape(message_id)}"'
        f' data-kind="{kind}" data-text="{escape(text)}"></div>'
    )


@dataclass(frozen=True, slots=True)
class BarStates:
    """What the bars show, by message: `(2, 3)` for the second of three versions, the thumb with
    its words, how often a thumb could not be kept, and the line of the receipt. `last` is the
    message whose bar is always there; `chosen` has the answers that stand side by side, True for
    the one that the chat goes on with.
    """

    last: str | None
    versions: Mapping[str, tuple[int, int]]
    ratings: Mapping[str, tuple[str, str | None]]
    failed: Mapping[str, int]
    receipts: Mapping[str, str]
    chosen: Mapping[str, bool]


def show_bars(states: BarStates, *, on_act: Callable[[], None]) -> None:
    """What all bars of the page show. `on_act` finds what was clicked with `clicked`."""
    words = {
        "question": t("Question"),
        "answer": t("Answer"),
        "previous": t("Previous version"),
        "next": t("Next version"),
        "edit": t("Edit"),
        "copy": t("Copy"),
        "copied": t("Copied"),
        "up": t("Good answer"),
        "down": t("Bad answer"),
        "again": t("Regenerate"),
        "other": t("Regenerate with another model"),
        "branch": t("Branch from here"),
        "choose": t("Go on with this answer"),
        "speak": t("Read aloud"),
        "hush": t("End reading"),
        "receipt": t("Details of this answer"),
        "good": t("What was good?"),
        "wrong": t("What was wrong?"),
        "send": t("Send"),
        "close": t("Close"),
    }
    _BARS(key=BARS, data={"words": words, **asdict(states)}, on_act_change=on_act)


def clicked() -> Mapping[str, Any]:
    """What was clicked in a bar: `message`, `name`, for `rate` and `words` the thumb as
    `value`, and for the latter `words`.
    """
    act = getattr(st.session_state.get(BARS), "act", None)
    return act if isinstance(act, dict) else {}


def watch_list(
    *,
    more: bool,
    state: str,
    go: Mapping[str, Any] | None,
    on_reached: Callable[[], None],
) -> None:
    """Calls `on_reached` near the top, once for each `state`; brings the message `go` into view."""
    _LIST(
        key="al_chat_list",
        data={"more": more, "state": state, "go": dict(go) if go else None},
        on_reached_change=on_reached,
    )
