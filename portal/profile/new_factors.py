"""Adding a second factor: the dialogs, and recovery codes on the screen, once.

Call what is here behind `proof.first`. What is secret goes straight from the service to the screen
and into no session state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import segno
import streamlit as st

from papita_core.errors import InvalidInput, PapitaError
from papita_core.users.passkeys import Question
from papita_core.users.totp import PendingTotp
from portal import wiring
from portal.components.code_field import code_field
from portal.components.codes import show_codes
from portal.components.passkey import forget, passkey_button
from portal.dialogs import dialog
from portal.session import SignedIn, actor, remembered, require_user
from portal.texts import N_, said, t
from portal.words import device, show_field_error

CAPABILITY = "factors"
REGISTER = "register"
Then = Callable[[], None]


@dataclass(slots=True)
class Adding:
    """`then` is called, as a callback is, once the factor is there; `done` says that it is.
    `shown`: recovery codes were drawn, and are not made a second time.
    """

    then: Then | None = None
    done: bool = False
    problem: str = ""
    shown: bool = False


def _begin(then: Then) -> None:
    adding = remembered(Adding)
    adding.then, adding.done, adding.problem = then, False, ""


def _added() -> None:
    adding = remembered(Adding)
    adding.done, adding.problem = True, ""
    if adding.then is not None:
        then, adding.then = adding.then, None
        then()


# --- passkeys ---


def add_passkey(then: Then) -> None:
    """Asks for a name and has the browser make a passkey."""
    _begin(then)
    forget(REGISTER)
    st.session_state["new_passkey_name"] = device(st.context.headers.get("User-Agent", ""))
    _passkey_dialog()


@dialog(N_("Add passkey"), icon=":material/passkey:")
def _passkey_dialog() -> None:
    user = require_user(CAPABILITY)
    if remembered(Adding).done:
        st.rerun(scope="app")
    papita = wiring.services().papita
    st.markdown(
        t(
            "Your browser asks how: with this device, a phone or a security key. A passkey signs"
            " you in by itself, and nobody can phish it."
        )
    )
    st.text_input(
        t("Name"),
        key="new_passkey_name",
        max_chars=100,
        placeholder=t("For example: work laptop"),
    )
    if remembered(Adding).problem:
        show_field_error(remembered(Adding).problem)
    passkey_button(
        REGISTER,
        t("Create passkey"),
        kind="create",
        primary=True,
        ask=lambda: papita.passkeys.ask_to_register(user.actor),
        on_answer=_register,
    )


def _register(question: Question, answer: str) -> None:
    name = st.session_state.get("new_passkey_name") or device(
        st.context.headers.get("User-Agent", "")
    )
    try:
        wiring.services().papita.passkeys.register(actor(), question, answer, name)
    except InvalidInput as error:
        remembered(Adding).problem = error.errors.get("name", str(error))
        return
    _added()


# --- the authenticator app ---


def set_up_app(then: Then) -> None:
    """Shows the QR code of a new secret and asks for the first code."""
    try:
        wiring.services().papita.totp.begin(actor())
    except PapitaError as error:
        st.error(said(error), icon=":material/error:")
        return
    _begin(then)
    st.session_state["new_app_code"] = ""
    _app_dialog()


@dialog(N_("Set up authenticator app"), icon=":material/qr_code_2:")
def _app_dialog() -> None:
    user = require_user(CAPABILITY)
    if remembered(Adding).done:
        st.rerun(scope="app")
    try:
        pending = wiring.services().papita.totp.pending(user.actor)
    except PapitaError as error:
        st.error(said(error), icon=":material/error:")
        return
    st.markdown(t("**1.** Scan this with your authenticator app, or type the key into it."))
    _qr_code(pending)
    key = pending.secret
    groups = " ".join(key[at : at + 4] for at in range(0, len(key), 4))
    st.code(groups, language=None, wrap_lines=True)
    st.markdown(t("**2.** Type the code that the app shows now."))
    with st.form("new_app", border=False):
        code_field(t("Code"), key="new_app_code")
        if remembered(Adding).problem:
            st.error(remembered(Adding).problem, icon=":material/error:")
        st.form_submit_button(
            t("Switch on"), type="primary", width="stretch", on_click=_confirm_app
        )


def _qr_code(pending: PendingTotp) -> None:
    svg = segno.make(pending.uri, error="m", micro=False).svg_data_uri(
        scale=5, border=3, dark="#000", light="#fff", encode_minimal=False
    )
    st.html(
        f'<img src="{svg}" width="200" height="200" style="border-radius:0.625rem"'
        f' alt="{t("QR code for the authenticator app")}">'
    )


def _confirm_app() -> None:
    code, st.session_state["new_app_code"] = st.session_state.get("new_app_code", ""), ""
    try:
        wiring.services().papita.totp.confirm(actor(), code)
    except PapitaError as error:
        remembered(Adding).problem = said(error)
    else:
        _added()


# --- recovery codes ---


def forget_codes() -> None:
    """So that the next call of `show_new_codes` makes new ones."""
    remembered(Adding).shown = False


def show_new_codes(user: SignedIn, *, key: str) -> None:
    """Makes ten codes and draws them, once. A run that comes after says so, and offers others."""
    adding = remembered(Adding)
    if adding.shown:
        st.info(t("Your recovery codes were shown. They are not shown again."))
        st.button(t("Make new codes"), key=f"{key}_again", on_click=forget_codes, width="stretch")
        return
    try:
        codes = wiring.services().papita.recovery.renew(user.actor)
    except PapitaError as error:
        st.error(said(error), icon=":material/error:")
        return
    adding.shown = True
    st.markdown(
        t(
            "If you lose your passkey or your phone, one of these lets you in instead. Each one"
            " serves once. Keep them where you keep passwords, or on paper: they are not shown"
            " again, and earlier ones no longer work."
        )
    )
    show_codes(codes, user.session.username)
