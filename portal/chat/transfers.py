"""Conversations as files: one or all to take away, and those of AL-Chat or ChatGPT to bring in."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Final, Literal

import streamlit as st

from alchat_core.client import (
    AlChatError,
    Conversation,
    ImportReport,
    NothingImported,
    UserClient,
)
from papita_core.errors import PapitaError
from portal.chat.actions import open_conversation
from portal.chat.shelves import shelves
from portal.chat.view import client, problem_of
from portal.dialogs import close_when_done
from portal.session import tab
from portal.texts import t, tn, translated
from portal.words import plain, show_field_error

Format = Literal["markdown", "json"]
_NOT_IN_NAMES: Final = re.compile(r'[\x00-\x1f<>:"/\\|?*.]+')


def export(conversation: Conversation) -> None:
    """Nothing is fetched before a button is pressed."""

    @st.dialog(t("Export chat"), on_dismiss="rerun")
    def show() -> None:
        user = client()
        name = file_name(conversation.title or t("New chat"))
        _choice(
            t("Markdown"),
            t("To read: this version of the chat as a text."),
            f"{name}.md",
            "text/markdown",
            lambda: user.export_conversation(conversation.id, "markdown").content,
        )
        _choice(
            t("JSON"),
            t("To keep: every version, and it can be imported again."),
            f"{name}.json",
            "application/json",
            lambda: user.export_conversation(conversation.id, "json").content,
        )

    show()


def export_all() -> None:
    @st.dialog(t("Export all chats"), on_dismiss="rerun")
    def show() -> None:
        user = client()
        _choice(
            t("Markdown"),
            t("To read: a ZIP with a text for each chat."),
            "al-chat-markdown.zip",
            "application/zip",
            lambda: _all(user, "markdown"),
        )
        _choice(
            t("JSON"),
            t("To keep: a ZIP with every version, which can be imported again."),
            "al-chat-json.zip",
            "application/zip",
            lambda: _all(user, "json"),
        )

    show()


def _choice(label: str, what: str, name: str, kind: str, data: Callable[[], bytes]) -> None:
    with st.container(
        horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"
    ):
        st.markdown(what, width=300)
        st.download_button(
            label,
            data,
            file_name=name,
            mime=kind,
            icon=":material/download:",
            on_click="ignore",
            key=f"al_chat_export_{kind}_{name}",
        )


def _all(user: UserClient, format: Format) -> bytes:  # noqa: A002 - as on the wire
    into = io.BytesIO()
    user.export_all(into, format)
    return into.getvalue()


def file_name(title: str) -> str:
    """A name that every system takes."""
    return " ".join(_NOT_IN_NAMES.sub(" ", title).split())[:80].strip() or "chat"


def bring_in() -> None:
    """The dialog with which conversations are imported, and then the report on it."""

    @st.dialog(t("Import chats"), on_dismiss="rerun")
    def show() -> None:
        close_when_done()
        st.markdown(t("An export of AL-Chat or ChatGPT. What is here already is not taken twice."))
        file = st.file_uploader(
            t("File"), type=["json", "zip"], key="al_chat_import", label_visibility="collapsed"
        )
        begun = st.button(
            t("Import"), type="primary", key="al_chat_import_begin", disabled=file is None
        )
        if begun and file is not None:
            with st.spinner(t("Importing …")):
                _import(file)

    show()


def _import(file: io.BytesIO) -> None:
    try:
        report = client().import_conversations(file)
    except NothingImported as problem:
        report = problem.report
    except (AlChatError, PapitaError) as error:
        show_field_error(problem_of(error).sentence)
        return
    shelves().forget_lists()
    show_report(report)
    if report.conversation_ids:
        st.button(
            t("Open the first one"),
            key="al_chat_import_open",
            on_click=_open,
            args=(report.conversation_ids[0],),
        )


def _open(conversation_id: str) -> None:
    open_conversation(conversation_id)
    tab().dialog_done = True


def show_report(report: ImportReport) -> None:
    """What became of a file, in words."""
    lines = in_words(report)
    if report.imported:
        st.success(lines[0], icon=":material/check:")
    else:
        st.info(lines[0], icon=":material/info:")
    if lines[1:]:
        st.markdown("\n".join(f"- {line}" for line in lines[1:]))
    for one in report.not_taken:
        why = plain(translated(one.reason))
        st.caption(f"**{plain(one.name)}**: {why}" if one.name else why)


def in_words(report: ImportReport) -> list[str]:
    """The report as sentences in Markdown, the most important one first."""
    if report.imported:
        chats = tn("One chat imported", "{count} chats imported", report.imported)
        with_all = tn("with one message.", "with {count} messages.", report.messages)
        lines = [f"{chats}, {with_all}"]
    else:
        lines = [t("Nothing was imported.")]
    if report.already_there:
        lines.append(
            tn("One was here already.", "{count} were here already.", report.already_there)
        )
    if report.not_taken_count:
        lines.append(
            tn(
                "One could not be taken:",
                "{count} could not be taken, the first of them:",
                report.not_taken_count,
            )
        )
    lines += [
        t("Left out: {what} ({count})", what=plain(translated(one.what)), count=one.count)
        for one in report.left_out
    ]
    if report.stopped:
        lines.append(plain(translated(report.stopped)))
    return lines
