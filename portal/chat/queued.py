"""Messages that were written while an answer was: each is sent by itself when that one is there.

They live in the tab; the browser keeps their text as well, so that closing the tab loses none.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from portal.chat.recordings import dictation
from portal.chat.view import View
from portal.session import Unsent, remembered, tab


@dataclass(slots=True)
class Queue:
    """By conversation, in the order in which they were written."""

    waiting: dict[str, list[Unsent]] = field(default_factory=dict)

    def of(self, conversation_id: str | None) -> list[Unsent]:
        return self.waiting.get(conversation_id or "", [])

    def add(self, message: Unsent) -> None:
        self.waiting.setdefault(message.conversation_id or "", []).append(message)

    def take(self, conversation_id: str | None, key: str | None = None) -> Unsent | None:
        """The first one, or the one with that key; it waits no longer."""
        for message in self.of(conversation_id):
            if key is None or message.idempotency_key == key:
                self.of(conversation_id).remove(message)
                return message
        return None


def queue() -> Queue:
    return remembered(Queue)


def next_message(view: View) -> Unsent | None:
    """What is to be sent now: the answer before it is complete, and nothing else is in the way."""
    if not queue().of(view.conversation_id) or view.active is not None or not view.messages:
        return None
    last = view.messages[-1]
    if last.run is None or last.run.state != "completed":
        return None
    return queue().take(view.conversation_id)


def not_sent_yet(conversation_id: str | None) -> str:
    """The text that has left the input and is not at AL-Chat: that the browser keeps as well."""
    waiting = list(queue().of(conversation_id))
    unsent = tab().unsent
    if unsent is not None and unsent.conversation_id == conversation_id:
        waiting.insert(0, unsent)
    spoken = [one.text for one in dictation().of(conversation_id) if one.text]
    return "\n\n".join([message.text for message in waiting] + spoken)
