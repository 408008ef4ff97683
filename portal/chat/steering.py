"""What the user does with a message that is there: callbacks, and what they leave to be drawn.

The bars are in a fragment, which is all that the run of a click in them draws. Where more has
changed, `Steering.redraw` says so, and the fragment runs the whole page.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Literal
from uuid import uuid4

import streamlit as st

from alchat_core.client import AlChatError, Feedback, Message, UserClient
from papita_core.errors import PapitaError
from portal.chat.actions import chosen_model, open_conversation
from portal.chat.view import View, client, problem_of
from portal.chat.window import Window
from portal.components.messages import clicked
from portal.session import remembered, tab
from portal.texts import t

# The longest words that go with a thumb, in characters.
WORDS: Final = 2000


@dataclass(slots=True)
class Steering:
    """`edited` are the questions that are open, each with a name for what will be sent; `ratings`
    what this tab has said itself, `failed` how often a thumb could not be kept. The next
    run of the page is to open the list of models for the answer `choosing`, and the details of the
    answer `details`.
    """

    edited: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    ratings: dict[str, Feedback | None] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    choosing: str | None = None
    details: str | None = None
    redraw: bool = False


def other_key(message: Message) -> str:
    return f"al_chat_other_{message.id}"


def beside_key(message: Message) -> str:
    return f"al_chat_other_beside_{message.id}"


def edit_key(message: Message) -> str:
    return f"al_chat_edit_{message.id}"


def act(view: View) -> None:
    """What was clicked in the bar of one of the messages."""
    done = clicked()
    message = view.message(done.get("message"))
    if message is None:
        return
    name = done.get("name")
    steering = remembered(Steering)
    if name in ("rate", "words"):
        value = done.get("value")
        words = str(done.get("words") or "").strip()[:WORDS]
        _rate(message, value if value in ("up", "down") else None, words or None)
        return
    steering.redraw = True
    if name == "edit":
        steering.edited.setdefault(message.id, uuid4().hex)
    elif name == "other":
        steering.choosing = message.id
    elif name == "receipt":
        steering.details = message.id
    elif name == "again":
        regenerate(message, message.model)
    elif name == "branch":
        _branch(message)
    elif name == "choose":
        _choose(message, message.id)
    elif name in ("previous", "next"):
        _walk(message, -1 if name == "previous" else 1)


def regenerate(message: Message, model: str | None, *, beside: bool = False) -> None:
    """Another answer to the same question, in its place or beside it."""
    if message.parent_id is None:
        return
    question = message.parent_id

    def ask(user: UserClient) -> None:
        tab().follow(user.retry(question, model=model, beside=beside).run_id)

    _try(ask)


def regenerate_with_chosen(message: Message) -> None:
    model = st.session_state.get(other_key(message))
    if model:
        regenerate(message, str(model), beside=bool(st.session_state.get(beside_key(message))))
        remembered(Steering).redraw = True


def go_on(message_id: str) -> None:
    """Goes on with an answer that was broken off; what there is stays where it is."""
    if _try(lambda user: user.go_on(message_id)):
        tab().following.clear()


def choose_another_model(answer_id: str) -> None:
    """Opens the list of models for another answer."""
    remembered(Steering).choosing = answer_id


def cancel_edit(message: Message) -> None:
    steering = remembered(Steering)
    steering.edited.pop(message.id, None)
    steering.problems.pop(message.id, None)


def save_edit(message: Message) -> None:
    """Sends the question in its new words, as another version of it."""
    steering = remembered(Steering)
    text = str(st.session_state.get(edit_key(message)) or "").strip()
    name = steering.edited.get(message.id)
    if not text or name is None:
        return
    try:
        sent = client().send(
            message.conversation_id,
            text,
            model=chosen_model(),
            parent_id=message.parent_id,
            first=message.parent_id is None,
            idempotency_key=sha256(f"{name} {text}".encode()).hexdigest()[:32],
            attachments=[file.id for file in message.attachments],
        )
    except (AlChatError, PapitaError) as error:
        steering.problems[message.id] = problem_of(error).sentence
        return
    tab().follow(sent.run_id)
    cancel_edit(message)


def _rate(message: Message, rating: Literal["up", "down"] | None, words: str | None) -> None:
    """The thumb, and words to it, which the bar keeps until it sees them here."""
    found: list[Feedback] = []

    def rate(user: UserClient) -> None:
        if rating is None:
            user.unrate(message.id)
        else:
            found.append(user.rate(message.id, rating, words))

    if _try(rate):
        _remember(message, found[0] if found else None)
    else:
        # The bar shows the thumb that was clicked; this takes it back.
        _failed(message)


def _failed(message: Message) -> None:
    failed = remembered(Steering).failed
    failed[message.id] = failed.get(message.id, 0) + 1


def _remember(message: Message, feedback: Feedback | None) -> None:
    remembered(Steering).ratings[message.id] = feedback
    remembered(Window).rated(message.id, feedback)


def _branch(message: Message) -> None:
    found: list[str] = []
    if _try(
        lambda user: found.append(user.copy_conversation(message.conversation_id, message.id).id)
    ):
        open_conversation(found[0])
        tab().notice = t("This is a new chat that goes on from there.")


def _walk(message: Message, step: int) -> None:
    siblings = message.siblings
    if siblings is None:
        return
    at = siblings.ids.index(message.id) + step if message.id in siblings.ids else -1
    if 0 <= at < len(siblings.ids):
        _choose(message, siblings.ids[at])


def _choose(message: Message, chosen: str) -> None:
    """The conversation goes on with the message of that id."""
    if _try(lambda user: user.choose_branch(message.conversation_id, chosen)):
        tab().following.clear()


def _try(call: Callable[[UserClient], object]) -> bool:
    """Whether it went well; if not, the sentence waits to be shown."""
    try:
        call(client())
    except (AlChatError, PapitaError) as error:
        tab().notice = problem_of(error).sentence
        remembered(Steering).redraw = True
        return False
    return True
