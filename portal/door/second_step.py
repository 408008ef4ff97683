"""The second step of signing in: the password was right, and a second factor is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st

from papita_core.app import Papita
from papita_core.errors import PapitaError, SignInRefused
from papita_core.users.factors import PASSKEY, RECOVERY, TOTP
from papita_core.users.passkeys import Question
from papita_core.users.recovery import FEW
from portal import sign_in, wiring
from portal.components.code_field import code_field
from portal.components.passkey import forget, passkey_button
from portal.session import SecondStep, address, remembered, tab
from portal.texts import said, t, tn
from portal.words import plain

NAME = "second_step"
Done = Callable[[str], None]


@dataclass(slots=True)
class Showing:
    """`recovery`: a recovery code is asked for instead. `problem`: of the last code."""

    recovery: bool = False
    problem: str = ""


def second_step() -> SecondStep | None:
    """What this tab still owes; one that has waited too long is forgotten."""
    step = tab().second_step
    if step is not None and step.expired:
        back()
        tab().errors["door"] = {"form": t("That took too long. Log in again.")}
        return None
    return step


def show_second_step(papita: Papita, step: SecondStep) -> None:
    """Instead of the sign-in form."""
    st.title(t("One more step"), anchor=False)
    st.markdown(
        t(
            "You are signing in as **{name}**. Show your second factor.",
            name=plain(step.username),
        )
    )
    ask_for_factor(papita, step.user_id, step.kinds, _finish, on_back=back)


def ask_for_factor(
    papita: Papita,
    user_id: str,
    kinds: tuple[str, ...],
    done: Done,
    *,
    on_back: Callable[[], None] | None = None,
) -> None:
    """Asks for one of `kinds`; `done` is called, as a callback is, with the one that was shown, and
    may raise `PapitaError`. Where `on_back` is given there is a button for it.
    """
    showing = remembered(Showing)
    passkeys = PASSKEY in kinds and papita.passkeys.unavailable is None
    recovery = RECOVERY in kinds and (showing.recovery or (TOTP not in kinds and not passkeys))
    sealed = TOTP in kinds and papita.ring.sealed
    if recovery:
        _recovery_form(user_id, done)
    elif sealed:
        st.warning(
            t(
                "The vault is sealed, so codes of an authenticator app cannot be checked. Take a"
                " passkey or a recovery code, or tell an administrator."
            ),
            icon=":material/lock:",
        )
    elif TOTP in kinds:
        _code_form(user_id, done)
    elif not passkeys:
        st.warning(
            t(
                "Your second factor is a passkey, and none can be shown here. An administrator can"
                " take it away, so that you log in with your password and add another one."
            ),
            icon=":material/passkey:",
        )
    if passkeys:
        passkey_button(
            NAME,
            t("Use a passkey"),
            ask=lambda: papita.passkeys.ask(user_id, "second-step"),
            on_answer=lambda question, answer: _passkey(user_id, question, answer, done),
            primary=not recovery and (sealed or TOTP not in kinds),
        )
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        if recovery and (TOTP in kinds or passkeys):
            _switch(t("Use the usual way"), False)
        elif RECOVERY in kinds and not recovery:
            _switch(t("Use a recovery code"), True)
        if on_back is not None:
            st.button(t("Back"), key="second_step_back", type="tertiary", on_click=on_back)


def _switch(label: str, recovery: bool) -> None:
    st.button(label, key="second_step_way", type="tertiary", on_click=_show, args=(recovery,))


def _code_form(user_id: str, done: Done) -> None:
    with st.form("second_step_code", border=False):
        code_field(t("Code"), key="second_step_totp")
        st.caption(t("The six digits that your authenticator app shows now."))
        _problem()
        st.form_submit_button(
            t("Continue"),
            type="primary",
            width="stretch",
            on_click=_check,
            args=("second_step_totp", TOTP, user_id, done),
        )


def _recovery_form(user_id: str, done: Done) -> None:
    with st.form("second_step_recovery_code", border=False):
        st.text_input(t("Recovery code"), key="second_step_code", autocomplete="off", max_chars=40)
        st.caption(t("One of the ten that you kept. Each one serves once."))
        _problem()
        st.form_submit_button(
            t("Continue"),
            type="primary",
            width="stretch",
            on_click=_check,
            args=("second_step_code", RECOVERY, user_id, done),
        )


def _problem() -> None:
    problem = remembered(Showing).problem
    if problem:
        st.error(problem, icon=":material/error:")


def _show(recovery: bool) -> None:
    showing = remembered(Showing)
    showing.recovery, showing.problem = recovery, ""


def back() -> None:
    """To the sign-in form."""
    tab().second_step = None
    _show(False)
    forget(NAME)


def _check(key: str, kind: str, user_id: str, done: Done) -> None:
    showing = remembered(Showing)
    typed, st.session_state[key] = st.session_state.get(key, ""), ""
    papita = wiring.services().papita
    if not typed.strip():
        showing.problem = t("Type the code first.")
        return
    try:
        if kind == TOTP:
            papita.totp.verify(user_id, typed, address=address())
        else:
            left = papita.recovery.use(user_id, typed, address=address())
        _show(False)
        done(kind)
        if kind == RECOVERY and left <= FEW:
            tab().notice = tn(
                "{count} recovery code is left. Make new ones on the page Profile.",
                "{count} recovery codes are left. Make new ones on the page Profile.",
                left,
            )
    except PapitaError as error:
        showing.problem = said(error)


def _passkey(user_id: str, question: Question, answer: str, done: Done) -> None:
    wiring.services().papita.passkeys.verify(question, "second-step", answer, address=address())
    _show(False)
    done(PASSKEY)


def _finish(kind: str) -> None:
    step = tab().second_step
    user = None if step is None else wiring.services().papita.users.by_id(step.user_id)
    if step is None or step.expired or user is None:
        raise SignInRefused(t("That took too long. Log in again."))
    back()
    sign_in.finish(user, method=step.method, second_factor=kind, remember=step.remember)
