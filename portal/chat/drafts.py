"""What is typed and not sent yet: it stays in the browser, by user and conversation.

Nothing of it reaches the portal before it is sent. At a `/` the same component offers prompts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import uuid4

import streamlit as st

from portal.chat.choices import offered
from portal.chat.queued import not_sent_yet
from portal.chat.view import View
from portal.components import Component, source
from portal.session import SignedIn, remembered
from portal.texts import t

KEY = "al_chat_draft"
NEW = "new"

_DRAFT = Component(
    "al_chat_draft",
    source("draft.js"),
    html='<div role="listbox" hidden></div>\n',
    css=source("draft.css"),
)


@dataclass(slots=True)
class Drafts:
    """What the browser has to do about the input: each is done once, by its id."""

    tab: str = field(default_factory=lambda: uuid4().hex)
    taken_id: str = ""
    taken_place: str = NEW
    put_id: str = ""
    put_text: str = ""

    def taken(self, conversation_id: str | None) -> None:
        """What was typed there is sent; the browser forgets it."""
        self.taken_id = uuid4().hex
        self.taken_place = conversation_id or NEW

    def put(self, text: str) -> None:
        """Puts a text into the input, before what is there."""
        self.put_id = uuid4().hex
        self.put_text = text


def drafts() -> Drafts:
    return remembered(Drafts)


def keep_draft(user: SignedIn, view: View, on_assistant: Callable[[], None]) -> None:
    """Mounted beside the input on every run; draws nothing but the list at a `/`."""
    state = drafts()
    _DRAFT(
        key=KEY,
        data={
            "tab": state.tab,
            "user": user.session.user_id,
            "place": view.conversation_id or NEW,
            "queued": not_sent_yet(view.conversation_id),
            "taken": {"id": state.taken_id, "place": state.taken_place},
            "asked": "" if state.taken_id else _last_question(view),
            "put": {"id": state.put_id, "text": state.put_text},
            "prompts": offered(),
            "words": {
                "list": t("Prompts and assistants"),
                "assistant": t("Assistant"),
                "prompt": t("Prompt"),
            },
        },
        height=0,
        on_assistant_change=on_assistant,
    )


def _last_question(view: View) -> str:
    """A page that was left in the moment of sending did not hear that its message was taken."""
    return next((one.content for one in reversed(view.messages) if one.role == "user"), "")


def asked_assistant() -> str | None:
    """The id of the assistant that was just chosen in the list."""
    value = st.session_state.get(KEY)
    found = value.get("assistant") if value is not None else None
    return found if isinstance(found, str) else None
