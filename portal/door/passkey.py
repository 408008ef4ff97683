"""Signing in with a passkey alone: no name, no password."""

from __future__ import annotations

from papita_core.app import Papita
from papita_core.users.passkeys import Question
from portal import sign_in, wiring
from portal.components.passkey import chosen, passkey_button
from portal.session import address
from portal.texts import t

NAME = "door"


def show_passkey_button(papita: Papita) -> None:
    """Below the form, wherever browsers offer passkeys at all."""
    if papita.passkeys.unavailable is None:
        passkey_button(
            NAME,
            t("Sign in with a passkey"),
            ask=papita.passkeys.ask_anybody,
            on_answer=_enter,
            choice=sign_in.KEEP,
        )


def _enter(question: Question, answer: str) -> None:
    papita = wiring.services().papita
    user = papita.passkeys.verify(question, "sign-in", answer, address=address())
    sign_in.finish(user, method="passkey", second_factor="passkey", remember=chosen(NAME))
