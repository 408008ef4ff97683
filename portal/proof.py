"""Asks once more who sits there, before what a stranger at an open tab must not be able to do.

    if st.button("Change password"):
        proof.first(show_the_dialog)
    ...
    proof.resume()  # the last line of the page

The services check it, too (`Actor.require_proof`); this is how a page gets past them. Whoever has
no password shows something else: a module that knows of a way adds it to `alternatives`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import streamlit as st

from papita_core.errors import PapitaError, SignInRefused
from papita_core.users.factors import PASSKEY
from papita_core.users.passkeys import Question
from portal import identity_providers, sign_in, wiring
from portal.components.passkey import forget, passkey_button
from portal.dialogs import dialog
from portal.session import SignedIn, address, current, remembered, require_user
from portal.texts import N_, said, t

# Each draws its own way into the dialog, for instance a button of the team's provider, and says
# whether this user has that way; once it was gone, it calls `proved`.
Alternative = Callable[[SignedIn], bool]
alternatives: list[Alternative] = [identity_providers.offer_proof]
PASSKEY_BUTTON = "proof"


@dataclass(slots=True)
class Waiting:
    """What is done once the user has proved it; `proved` says that this was just now."""

    then: Callable[[], object] | None = None
    proved: bool = False
    problem: str = ""


def first(then: Callable[[], object]) -> None:
    """Does `then` now if the user has proved lately who they are, else asks first.

    `then` may open a dialog. Call it where a dialog may be opened, not in a callback.
    """
    user = current()
    if user is not None and user.actor.proved(datetime.now(UTC)):
        then()
        return
    waiting = remembered(Waiting)
    waiting.then, waiting.proved, waiting.problem = then, False, ""
    forget(PASSKEY_BUTTON)
    _ask()


def resume() -> None:
    """Goes on with what waited for the proof. Every page that calls `first` ends with this."""
    waiting = remembered(Waiting)
    if waiting.proved and waiting.then is not None:
        then, waiting.then, waiting.proved = waiting.then, None, False
        then()


def proved(*, second_factor: str | None = None) -> None:
    """Called, best in a callback, once the user of this tab has shown who they are."""
    sign_in.prove(second_factor=second_factor)
    waiting = remembered(Waiting)
    waiting.problem, waiting.proved = "", True


def refused(sentence: str) -> None:
    """Shows in the dialog why it was not proved."""
    remembered(Waiting).problem = sentence


def _forget() -> None:
    remembered(Waiting).then = None


@dialog(N_("Confirm that it is you"), icon=":material/lock:", on_dismiss=_forget)
def _ask() -> None:
    user = require_user("factors")
    waiting = remembered(Waiting)
    if waiting.proved:
        st.rerun(scope="app")
    papita = wiring.services().papita
    has = papita.factors.overview(user.actor)
    passkeys = has.passkeys > 0 and papita.passkeys.unavailable is None
    if passkeys:
        passkey_button(
            PASSKEY_BUTTON,
            t("Use a passkey"),
            ask=lambda: papita.passkeys.ask(user.session.user_id, "proof"),
            on_answer=_check_passkey,
            primary=not has.password,
        )
    if has.password:
        _ask_for_password()
    others = [draw(user) for draw in alternatives]
    if not (has.password or passkeys or any(others)):
        st.markdown(t("Log out and log in again: that proves it as well."))
    if waiting.problem:
        st.error(waiting.problem, icon=":material/error:")


def _ask_for_password() -> None:
    with st.form("proof", border=False):
        st.text_input(
            t("Password"),
            type="password",
            key="proof_password",
            autocomplete="current-password",
            max_chars=1024,
        )
        st.form_submit_button(t("Confirm"), type="primary", width="stretch", on_click=_check)


def _check_passkey(question: Question, answer: str) -> None:
    require_user("factors")
    wiring.services().papita.passkeys.verify(question, "proof", answer, address=address())
    proved(second_factor=PASSKEY)


def _check() -> None:
    password, st.session_state["proof_password"] = st.session_state.get("proof_password", ""), ""
    user = require_user("factors")
    try:
        found = wiring.services().papita.sign_in.authenticate(
            user.session.username, password, address=address(), purpose="proof"
        )
        if found.id != user.session.user_id:
            raise SignInRefused
        proved()
    except PapitaError as error:
        refused(said(error))
