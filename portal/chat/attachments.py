"""Files of messages: on their way to AL-Chat, and in the bubble of the question."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass

import streamlit as st
from babel.numbers import format_decimal
from streamlit.delta_generator import DeltaGenerator
from streamlit.typing import UploadedFile

from alchat_core.client import AlChatError, Attachment, Message, UserClient
from papita_core.errors import PapitaError
from portal.chat.view import client, problem_of
from portal.file_routes import DRAWN, PREFIX
from portal.session import OutgoingFile, Unsent, remembered, tab
from portal.texts import locale, t, tn
from portal.words import plain

# What AL-Chat takes unless it is set otherwise; where it is, AL-Chat's own sentence says so.
MEGABYTES = 20
FILES = 10
UPLOADS_AT_ONCE = 3
WAIT_SECONDS = 0.25
UPLOADING = "uploading"
REFUSED = "file-refused"


@dataclass(slots=True)
class _Progress:
    slot: DeltaGenerator | None = None


def outgoing(files: Sequence[UploadedFile]) -> list[OutgoingFile]:
    return [OutgoingFile(file.name, file.type or "", file.getvalue()) for file in files]


def begin_uploads(message: Unsent) -> bool:
    """Starts what is not at AL-Chat yet, in parallel; False if all of it is."""
    missing = [file for file in message.files if file.id is None]
    if not missing:
        return False
    if len(message.files) > FILES:
        message.code = REFUSED
        message.problem = tn(
            "One message can have {count} file. Leave some out.",
            "One message can have {count} files. Leave some out.",
            FILES,
        )
        return True
    user = client()
    pool = ThreadPoolExecutor(UPLOADS_AT_ONCE, thread_name_prefix="upload")
    for file in missing:
        file.problem = ""
        file.upload = pool.submit(_upload, user, file.name, file.data)
    pool.shutdown(wait=False)
    message.code, message.problem = UPLOADING, ""
    return True


def _upload(user: UserClient, name: str, data: bytes) -> str:
    return user.upload(name, data).id


def upload_all(user: UserClient, files: Sequence[UploadedFile], known: dict[str, str]) -> str:
    """Uploads what is not in `known` and puts the ids there, by that of the picked file.

    What is wrong with the first that AL-Chat does not take, or nothing.
    """
    missing = [file for file in files if file.file_id not in known]
    problem = ""
    with ThreadPoolExecutor(UPLOADS_AT_ONCE, thread_name_prefix="upload") as pool:
        uploads = [pool.submit(_upload, user, file.name, file.getvalue()) for file in missing]
    for file, upload in zip(missing, uploads, strict=True):
        try:
            known[file.file_id] = upload.result()
        except (AlChatError, PapitaError) as error:
            problem = problem or f"{file.name}: {problem_of(error).sentence}"
    return problem


def wait_for_uploads(message: Unsent) -> bool:
    """Draws how far they are; whether all files are there. What AL-Chat refuses is in `problem`.

    A click or a closed tab ends this script meanwhile, and the next run waits on.
    """
    waiting = {file.upload for file in message.files if file.upload is not None}
    while waiting:
        _show_progress(message)
        _, waiting = wait(waiting, timeout=WAIT_SECONDS, return_when=FIRST_COMPLETED)
        tab()
    for file in message.files:
        if file.upload is None:
            continue
        try:
            file.id = file.upload.result()
        except (AlChatError, PapitaError) as error:
            problem = problem_of(error)
            file.problem = problem.sentence
            message.code, message.problem = problem.code, problem.sentence
        file.upload = None
    return all(file.id for file in message.files)


def _show_progress(message: Unsent) -> None:
    slot = remembered(_Progress).slot
    if slot is not None:
        done = sum(1 for file in message.files if file.upload is None or file.upload.done())
        slot.progress(
            done / len(message.files),
            t(
                "Uploading {done} of {all} …",
                done=min(done + 1, len(message.files)),
                all=len(message.files),
            ),
        )


def show_outgoing(message: Unsent) -> None:
    """The files of a message that AL-Chat has not taken yet, each with a way to leave it out."""
    for number, file in enumerate(message.files):
        with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
            icon = ":material/error:" if file.problem else ":material/attach_file:"
            st.markdown(
                f"{icon} {plain(file.name)} :gray[{size_in_words(len(file.data))}]",
                width="content",
            )
            if message.code != UPLOADING and len(message.files) > 1:
                st.button(
                    t("Leave {name} out", name=plain(file.name)),
                    icon=":material/close:",
                    type="tertiary",
                    key=f"al_chat_leave_out_{message.idempotency_key}_{number}",
                    on_click=_leave_out,
                    args=(message.idempotency_key, number),
                )
    if message.code == UPLOADING:
        remembered(_Progress).slot = st.empty()
        _show_progress(message)


def _leave_out(key: str, number: int) -> None:
    unsent = tab().unsent
    if unsent is not None and unsent.idempotency_key == key and number < len(unsent.files):
        del unsent.files[number]


def show_attachments(message: Message) -> None:
    """The files of a question: pictures small, which a click shows whole, others as a chip."""
    if not message.attachments:
        return
    with st.container(
        horizontal=True, gap="small", key=f"al_chat_files_{message.id}", vertical_alignment="bottom"
    ):
        for file in message.attachments:
            if file.status == "ready" and file.media_type in DRAWN:
                with st.container(width=200):
                    st.markdown(f"[![{plain(file.name)}]({address(file)})]({address(file)})")
            else:
                st.markdown(chip(file), width="content")


def address(file: Attachment) -> str:
    """Where the browser gets it."""
    return PREFIX + file.id


def chip(file: Attachment) -> str:
    """`report.pdf 12 pages, 1.4 MB`, a link as long as the file is there."""
    about = size_in_words(file.bytes)
    if file.pages:
        about = tn("{count} page", "{count} pages", file.pages) + f", {about}"
    if file.status != "ready":
        return f":material/draft: {plain(file.name)} :gray[{t('deleted')}]"
    return f":material/draft: [{plain(file.name)}]({address(file)}) :gray[{about}]"


def size_in_words(size: int) -> str:
    """`812 bytes`, `1.4 MB`."""
    if size < 1000:
        return tn("{count} byte", "{count} bytes", size)
    if size < 1_000_000:
        return t("{number} kB", number=format_decimal(round(size / 1000), locale=locale()))
    return t("{number} MB", number=format_decimal(round(size / 1_000_000, 1), locale=locale()))
