"""What the user does on the chat page: callbacks. The page is drawn anew after each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import streamlit as st
from streamlit.typing import ChatInputValue

from alchat_core.client import AlChatError, Sent, UserClient
from papita_core.errors import PapitaError
from portal.chat.attachments import UPLOADING, begin_uploads, outgoing, wait_for_uploads
from portal.chat.choices import choices
from portal.chat.dictation import begin, recorded
from portal.chat.drafts import drafts
from portal.chat.exchange import draw_alone
from portal.chat.models import picked
from portal.chat.queued import next_message, queue
from portal.chat.recordings import Recording, dictation
from portal.chat.view import QUERY, View, client, problem_of
from portal.chat.window import Window
from portal.session import Following, Unsent, remembered, tab
from portal.turns import turns

INPUT = "al_chat_input"
# So much later than its sending may come what a page draws of a message. Of many that are sent at
# once all are on their way before any is drawn: the answers are written meanwhile.
SENT_SECONDS = 1.0


def send() -> None:
    """Takes what was typed into the input, and the files beside it."""
    given, place = st.session_state.get(INPUT), st.query_params.get(QUERY)
    text, files = (given.strip(), []) if isinstance(given, str) else ("", [])
    if isinstance(given, ChatInputValue):
        text, files = (given.text or "").strip(), outgoing(given.files)
        if (said := recorded(given)) is not None:
            drafts().taken(place)
            begin(Recording(place, said.getvalue(), said.type, text, files))
            return
        files = dictation().take_files(place) + files
    # A message has words: those of a file without any are its name.
    text = text or ", ".join(file.name for file in files)
    if text:
        drafts().taken(place)
        message = Unsent(
            place, text, chosen_model(), str(uuid4()), "", "", files, compared_models()
        )
        sent = _send(message)
        if sent is not None:
            draw_alone(message, sent)


def send_again() -> None:
    """Sends the message that AL-Chat had not taken; if it had after all, nothing is doubled."""
    unsent = tab().unsent
    if unsent is not None:
        _send(unsent)


def _send(message: Unsent) -> Sent | None:
    """None if AL-Chat has not taken it; then the tab knows why."""
    state = tab()
    state.unsent = None
    try:
        if message.files and begin_uploads(message):
            state.unsent = message
            return None
        user = client()
        said: dict[str, Any] = {
            "model": message.model,
            "idempotency_key": message.idempotency_key,
            "attachments": [file.id for file in message.files if file.id],
        }
        turns.put_off(SENT_SECONDS)
        if message.conversation_id is None:
            begun = user.begin(message.text, **said, **choices().of_new())
            message.conversation_id = begun.conversation_id
            st.query_params[QUERY] = message.conversation_id
            dictation().settle(message.conversation_id)
            # It goes on with the model that is chosen here, also if that changes meanwhile.
            state.model_of = message.conversation_id
            choices().begin_anew()
            sent = begun.taken()
        else:
            sent = user.send(message.conversation_id, message.text, **said)
        state.follow(sent.run_id)
        remembered(Window).to_the_end()
    except (AlChatError, PapitaError) as error:
        problem = problem_of(error)
        if problem.code == "run-active":
            queue().add(message)
            return None
        message.problem, message.code = problem.sentence, problem.code
        state.unsent = message
        return None
    for number, model in enumerate(message.others):
        _ask_beside(user, sent.user_message_id, model, f"{message.idempotency_key}-{number}")
    return sent


def _ask_beside(user: UserClient, question: str, model: str | None, key: str | None = None) -> None:
    """One more answer at the same time. Without it the others are written all the same."""
    try:
        sent = user.retry(question, model=model, beside=True, idempotency_key=key)
    except (AlChatError, PapitaError) as error:
        tab().notice = problem_of(error).sentence
    else:
        tab().following[sent.run_id] = Following(sent.run_id)


def send_what_is_ready(view: View) -> bool:
    """Goes on with what needs more than one run of the page; whether it is to be drawn anew.

    Files that were still on their way, and the message that waited for an answer to end.
    """
    unsent = tab().unsent
    if unsent is not None and unsent.code == UPLOADING:
        if wait_for_uploads(unsent):
            _send(unsent)
        return True
    waiting = next_message(view) if unsent is None else None
    if waiting is None:
        return False
    _send(waiting)
    return True


def send_queued(conversation_id: str | None, key: str) -> None:
    """Sends a message that waits, although the answer before it is not complete."""
    message = queue().take(conversation_id, key)
    if message is not None:
        _send(message)


def edit_queued(conversation_id: str | None, key: str) -> None:
    """Puts a message that waits back into the input."""
    message = queue().take(conversation_id, key)
    if message is not None:
        drafts().put(message.text)


def cancel_queued(conversation_id: str | None, key: str) -> None:
    queue().take(conversation_id, key)


def discard_unsent() -> None:
    tab().unsent = None


def try_again(user_message_id: str, beside: str | None = None) -> None:
    """Another answer to the same message; by the model `beside`, at the side of those it has."""
    try:
        if beside is not None:
            _ask_beside(client(), user_message_id, beside)
            return
        tab().follow(client().retry(user_message_id, model=chosen_model()).run_id)
    except (AlChatError, PapitaError) as error:
        tab().notice = problem_of(error).sentence


def stop(run_ids: Sequence[str]) -> None:
    """Ends the runs, else those that this tab follows, and with them the provider's streams."""
    for run_id in run_ids or list(tab().following):
        try:
            client().cancel(run_id)
        except (AlChatError, PapitaError) as error:
            tab().notice = problem_of(error).sentence


def open_conversation(conversation_id: str | None) -> None:
    """Shows a conversation; None begins a new one."""
    state = tab()
    state.following.clear()
    state.unsent = None
    choices().begin_anew()
    if conversation_id is None:
        st.query_params.pop(QUERY, None)
    else:
        st.query_params[QUERY] = conversation_id


def chosen_model() -> str | None:
    """The model of the next message; None leaves the choice to AL-Chat."""
    return picked() or tab().model


def compared_models() -> tuple[str, ...]:
    """The models that are to answer the next message beside that one."""
    first = chosen_model()
    return tuple(model for model in choices().others if model != first)
