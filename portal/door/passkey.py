"""Signing in with a passkey alone: no name, no password."""

from __future__ import annotations

import streamlit as st

from papita_core.app import Papita
from papita_core.users.passkeys import Question
from portal import sign_in, wiring
from portal.components.passkey import passkey_button
from portal.texts import t

NAME = "door"


def show_passkey_button(papita: Papita) -> None:
    """Below the form, wherever browsers offer passkeys at all."""
    if papita.passkeys.unavailable is None:
        passkey_button(
            NAME, t("Sign in with a passkey"), ask=papita.passkeys.ask_anybody, on_answer=_enter
        )


def _enter(question: Question, answer: str) -> None:
    papita = wiring.services().papita
    user = papita.passkeys.verify(question, "sign-in", answer, address=st.context.ip_address or "")
    # To be kept signed in is a choice, which stands in the form beside the password.
    sign_in.finish(user, method="passkey", second_factor="passkey", remember=False)
