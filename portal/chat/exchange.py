"""What was just sent, as the page may draw it by itself: the question and the place of its answer.

To draw the whole page for one more question takes longer than all the rest that lies between Enter
and the first word. So the page keeps two places ready, each a fragment, and a message that changes
nothing else on the page is drawn there alone; the page follows when the first words are there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import streamlit as st

from alchat_core.client import Message, MessageRun, Sent
from portal.session import Unsent, keep_look, remembered

QUESTION: Final = "al_chat_next_question"
ANSWER: Final = "al_chat_next_answer"


@dataclass(slots=True)
class Exchange:
    """`ready`: the page as it is has the two places; `question` and `answer` are what was sent
    since, until the page is drawn anew.
    """

    ready: bool = False
    question: Message | None = None
    answer: Message | None = None

    def begin_anew(self) -> None:
        """The whole page is drawn."""
        self.ready, self.question, self.answer = False, None, None


def draw_alone(message: Unsent, sent: Sent) -> None:
    """At the end of a callback: draws this message alone, if the page has the places for it."""
    state = remembered(Exchange)
    if not state.ready or message.conversation_id is None or message.files or message.others:
        return
    place, now = message.conversation_id, datetime.now(UTC)
    state.ready = False
    state.question = Message(
        sent.user_message_id, place, None, "user", message.text, None, now, None, None, None
    )
    run = MessageRun(sent.run_id, "queued")
    state.answer = Message(
        sent.message_id,
        place,
        sent.user_message_id,
        "assistant",
        "",
        message.model,
        now,
        run,
        None,
        None,
    )
    keep_look()
    st.rerun((QUESTION, ANSWER))
