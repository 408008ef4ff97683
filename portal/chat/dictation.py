"""Dictation: a recording becomes words in the input, to be read and sent.

A recording is kept in the tab until its words are there or it is discarded. Files that were
attached beside it go with the next message of that conversation.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import streamlit as st
from streamlit.typing import ChatInputValue, UploadedFile

from alchat_core.client import AlChatError, UserClient
from papita_core.errors import PapitaError
from portal.chat.attachments import WAIT_SECONDS, size_in_words
from portal.chat.drafts import drafts
from portal.chat.recordings import Recording, dictation
from portal.chat.view import View, client, problem_of
from portal.session import tab
from portal.texts import t
from portal.words import plain, typed

NOTHING_HEARD = "nothing-heard"


def recorded(given: ChatInputValue) -> UploadedFile | None:
    """The recording in what was submitted, if there is one."""
    found = given.get("audio")
    return found if isinstance(found, UploadedFile) else None


def begin(recording: Recording) -> None:
    """Takes a recording and has it transcribed."""
    dictation().recordings.append(recording)
    _ask(recording)


def listen_again(key: str) -> None:
    """Has the same recording transcribed once more."""
    recording = dictation().named(key)
    if recording is not None and recording.words is None:
        _ask(recording)


def discard(key: str) -> None:
    """Forgets the recording, and nothing that was beside it."""
    recording = dictation().named(key)
    if recording is not None:
        dictation().done_with(recording)
        if recording.text:
            drafts().put(recording.text)


def _ask(recording: Recording) -> None:
    recording.problem = recording.code = ""
    try:
        user = client()
    except PapitaError as error:
        _failed(recording, error)
        return
    pool = ThreadPoolExecutor(1, thread_name_prefix="dictation")
    recording.words = pool.submit(_transcribe, user, recording.data, recording.media_type)
    pool.shutdown(wait=False)


def _transcribe(user: UserClient, data: bytes, media_type: str) -> str:
    return user.transcribe(data, media_type)


def _failed(recording: Recording, error: AlChatError | PapitaError) -> None:
    problem = problem_of(error)
    recording.problem, recording.code = problem.sentence, problem.code


def wait_for_words(view: View, meanwhile: Callable[[], None]) -> None:
    """Waits until a recording of this conversation has become words, puts them into the input and
    runs the page again. Without one, this does nothing.

    A click or a closed tab ends this script meanwhile, and the next run waits on.
    """
    waiting = {one.words for one in dictation().of(view.conversation_id) if one.words is not None}
    if not waiting:
        return
    done: set[Future[str]] = set()
    while not done:
        done, _ = wait(waiting, timeout=WAIT_SECONDS, return_when=FIRST_COMPLETED)
        tab()
        meanwhile()
    _take(view.conversation_id)
    st.rerun()


def _take(conversation_id: str | None) -> None:
    """Puts into the input what has come."""
    found = []
    for one in dictation().of(conversation_id):
        if one.words is None or not one.words.done():
            continue
        words, one.words = one.words, None
        try:
            said = words.result()
        except (AlChatError, PapitaError) as error:
            _failed(one, error)
            continue
        if not said:
            one.problem = t("No words were heard. Record again, or type instead.")
            one.code = NOTHING_HEARD
            continue
        dictation().done_with(one)
        found += [one.text, said]
    if found:
        drafts().put(" ".join(filter(None, found)))


def show_dictation(view: View) -> None:
    """Above the input: what is being transcribed, and the files that go with the next message."""
    # While an answer is followed, only what is drawn over goes away: so there is always a place.
    place = st.empty()
    listening = [one for one in dictation().of(view.conversation_id) if one.words is not None]
    files = dictation().files.get(view.conversation_id, [])
    if not listening and not files:
        return
    with place.container(gap="xsmall", key="al_chat_dictation"):
        for one in listening:
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.markdown(
                    f":material/graphic_eq: :shimmer[{t('Turning your words into text …')}]",
                    width="stretch",
                )
                st.button(
                    t("Discard"),
                    icon=":material/close:",
                    type="tertiary",
                    key=f"al_chat_listening_{one.key}",
                    on_click=discard,
                    args=(one.key,),
                )
            _show_beside(one)
        if files:
            st.caption(t("With your next message:"))
        for number, file in enumerate(files):
            with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
                st.markdown(
                    f":material/attach_file: {plain(file.name)}"
                    f" :gray[{size_in_words(len(file.data))}]",
                    width="content",
                )
                st.button(
                    t("Leave {name} out", name=plain(file.name)),
                    icon=":material/close:",
                    type="tertiary",
                    key=f"al_chat_beside_{view.conversation_id}_{number}",
                    on_click=_leave_out,
                    args=(view.conversation_id, number, file.name),
                )


def _leave_out(conversation_id: str | None, number: int, name: str) -> None:
    files = dictation().files.get(conversation_id, [])
    if number < len(files) and files[number].name == name:
        del files[number]


def show_recording(recording: Recording) -> None:
    """A recording that could not be transcribed, and what is beside it."""
    st.audio(recording.data, format=recording.media_type)
    _show_beside(recording)


def _show_beside(recording: Recording) -> None:
    if recording.text:
        st.markdown(typed(recording.text))
    for file in recording.files:
        st.markdown(f":material/attach_file: {plain(file.name)}")
