"""What a model thought before it answered: folded away, for whoever wants to read it."""

from __future__ import annotations

import streamlit as st

from alchat_core.client import Message
from portal.chat.markdown import shown
from portal.texts import t


def show_thoughts(message: Message, *, live: bool) -> None:
    """A closed fold; what is in it is sent when it is opened.

    `live`: an answer is being written on this page, which is when no fragment would be heard.
    """
    if message.reasoning:
        (_thoughts if live else _thoughts_alone)(message)


def _thoughts(message: Message) -> None:
    fold = st.expander(
        thought_label(message.reasoning_seconds),
        type="compact",
        # As it stood when the thinking had just ended.
        icon=":material/check:",
        key=f"al_chat_thoughts_{message.id}",
        on_change="rerun",
    )
    if fold.open:
        fold.markdown(shown(message.reasoning or ""))


_thoughts_alone = st.fragment(_thoughts)


def thought_label(seconds: float | None) -> str:
    """`Thought for 12 s`; without a time where nobody knows it."""
    if seconds is None:
        return t("Thoughts")
    return t("Thought for {time}", time=in_seconds(seconds))


def in_seconds(seconds: float) -> str:
    """`0.4 s`, `12 s`, `2 min 5 s`."""
    if seconds < 1:
        return t("{seconds} s", seconds=f"{max(seconds, 0.1):.1f}")
    minutes, rest = divmod(round(seconds), 60)
    if minutes:
        return t("{minutes} min {seconds} s", minutes=minutes, seconds=rest)
    return t("{seconds} s", seconds=rest)
