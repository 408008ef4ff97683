"""The user's data: all of it to take away, and the end of the account."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from datetime import UTC, datetime
from typing import Final

import streamlit as st

from alchat_core.client import AlChatError
from papita_core.actors import Actor
from papita_core.errors import InvalidInput, PapitaError
from papita_core.users.account import Account
from portal import proof, sign_in, wiring
from portal.dialogs import dialog
from portal.door.farewell import Farewell
from portal.session import actor, remembered, require_user, tab
from portal.texts import N_, said, t
from portal.wiring import AL_CHAT
from portal.words import plain, show_field_error

FORM: Final = "delete_account"
IN_MEMORY: Final = 1 << 22


def show_data(account: Account) -> None:
    st.subheader(t("Download your data"), anchor=False)
    with st.container(border=True):
        st.markdown(
            t(
                "One ZIP with everything that Papita has about you, as JSON: account, preferences,"
                " sessions, second factors, credentials, permissions, access tokens, usage, and"
                " what the audit log says of you. Keys and other secrets are not in it. With it"
                " come all your AL-Chat conversations, which can be imported again."
            )
        )
        if st.button(t("Download my data"), icon=":material/download:", key="data_download"):
            proof.first(_download_dialog)
    st.subheader(t("Delete your account"), anchor=False)
    with st.container(border=True):
        st.markdown(
            t(
                "Deletes your account for good: your keys are shredded, sessions, access tokens and"
                " permissions end at once, and AL-Chat deletes your conversations, files, prompts"
                " and shared chats. Of the audit log the rows stay, with ids and no names. Nobody"
                " can take this back."
            )
        )
        if st.button(t("Delete my account"), icon=":material/delete_forever:", key="data_delete"):
            proof.first(lambda: _delete_dialog(account))


# --- taking it away ---


@dialog(N_("Download your data"), icon=":material/download:")
def _download_dialog() -> None:
    user = require_user("profile")
    who = user.actor
    st.markdown(
        t("It is put together when you press the button. With many chats that takes a moment.")
    )
    problem = _chats_problem()
    if problem:
        st.warning(
            t("AL-Chat does not answer, so your chats will be missing: {why}", why=plain(problem)),
            icon=":material/warning:",
        )
    st.download_button(
        t("Save ZIP"),
        lambda: archive(who),
        file_name=f"papita-{user.session.username}-{datetime.now(UTC):%Y-%m-%d}.zip",
        mime="application/zip",
        icon=":material/download:",
        type="primary",
        width="stretch",
        on_click="ignore",
        key="data_save",
    )


def _chats_problem() -> str:
    health = wiring.services().alchat.health(timeout=2.0)
    return "" if health.state == "ok" else health.reason


def archive(who: Actor) -> bytes:
    """`account.json`, and `al-chat.zip` as AL-Chat exports it; without AL-Chat a note instead."""
    services = wiring.services()
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as made:
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as into:
            with into.open("account.json", "w") as file:
                for piece in services.papita.takeout.of(who):
                    file.write(piece.encode())
            with tempfile.SpooledTemporaryFile(IN_MEMORY) as chats:
                try:
                    services.alchat.as_user(
                        lambda: services.papita.projects.user_token(who, AL_CHAT).token
                    ).export_all(chats, "json")
                except (AlChatError, PapitaError) as error:
                    into.writestr("al-chat-is-missing.txt", f"{error}\n")
                else:
                    chats.seek(0)
                    with into.open("al-chat.zip", "w") as file:
                        shutil.copyfileobj(chats, file)
        made.seek(0)
        return made.read()


# --- the end ---


def _clear() -> None:
    tab().errors.pop(FORM, None)
    st.session_state.pop(f"{FORM}_name", None)


@dialog(N_("Delete your account"), icon=":material/delete_forever:", on_dismiss=_clear)
def _delete_dialog(account: Account) -> None:
    if tab().session_id is None:
        st.rerun(scope="app")
    require_user("profile")
    errors = tab().errors.get(FORM, {})
    st.markdown(
        t(
            "This cannot be undone. Download your data first if you want to keep any of it. Type"
            " your user name, **{name}**, to go on.",
            name=plain(account.username),
        )
    )
    with st.form(FORM, border=False):
        st.text_input(t("User name"), key=f"{FORM}_name", autocomplete="off", max_chars=64)
        if "confirmation" in errors:
            show_field_error(errors["confirmation"])
        if "form" in errors:
            st.error(errors["form"], icon=":material/error:")
        st.form_submit_button(
            t("Delete for good"), type="primary", width="stretch", on_click=_delete
        )


def _delete() -> None:
    services, who = wiring.services(), actor()
    typed = st.session_state.get(f"{FORM}_name", "")
    tab().errors.pop(FORM, None)
    # AL-Chat is asked with a token of before: afterwards there is nobody who could have one.
    try:
        token = services.papita.projects.user_token(who, AL_CHAT).token
    except PapitaError:
        token = ""
    try:
        services.papita.account.delete(who, who.user_id, confirmation=typed)
    except InvalidInput as error:
        tab().errors[FORM] = error.errors
        return
    except PapitaError as error:
        tab().errors[FORM] = {"form": said(error)}
        return
    erased = False
    try:
        if token:
            services.alchat.as_user(lambda: token).delete_account(who.username)
            erased = True
    except AlChatError:
        erased = False  # it asks Papita by itself, when it is there again
    _clear()
    sign_in.sign_out()
    remembered(Farewell).sentence = (
        t("Your account is deleted. AL-Chat has deleted your conversations and files, too.")
        if erased
        else t(
            "Your account is deleted. AL-Chat cannot be reached at the moment: it deletes your"
            " conversations and files as soon as it runs, within a minute of that."
        )
    )
