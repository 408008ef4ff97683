"""Setting up the second factor that is required: instead of every page, until there is one."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from papita_core.app import Papita
from portal import proof, sign_in, wiring
from portal.brand import show_wordmark
from portal.door.second_step import ask_for_factor
from portal.profile import new_factors
from portal.session import SignedIn, remembered
from portal.texts import t


@dataclass(slots=True)
class Progress:
    """`codes`: the factor is there, and the recovery codes are to be shown."""

    codes: bool = False


def needed(user: SignedIn) -> bool:
    """Whether this page stands in the place of all others."""
    return user.session.restricted or remembered(Progress).codes


def show_enrolment(user: SignedIn) -> None:
    papita = wiring.services().papita
    with st.container(horizontal_alignment="center"), st.container(width=420, gap="medium"):
        show_wordmark()
        if remembered(Progress).codes:
            _codes(user)
            return
        kinds = papita.factors.of(user.session.user_id)
        if kinds:
            st.title(t("Show your second factor"), anchor=False)
            st.markdown(
                t("A second factor is required here now. Show the one that you have to go on.")
            )
            ask_for_factor(
                papita,
                user.session.user_id,
                kinds,
                lambda kind: sign_in.prove(second_factor=kind),
            )
        else:
            _choices(papita)
    proof.resume()


def _choices(papita: Papita) -> None:
    st.title(t("Set up a second factor"), anchor=False)
    st.markdown(
        t(
            "Here a password alone is not enough. Choose what you will show besides it; you can add"
            " more on the page Profile later."
        )
    )
    with st.container(border=True):
        st.subheader(t("Passkey"), anchor=False)
        if papita.passkeys.unavailable:
            st.markdown(t("Not available here."))
        else:
            st.markdown(
                t(
                    "Your fingerprint, face, PIN or security key. Nothing to type, and it cannot be"
                    " phished."
                )
            )
            if st.button(
                t("Add passkey"), key="enrolment_passkey", type="primary", width="stretch"
            ):
                proof.first(lambda: new_factors.add_passkey(_passkey_added))
    with st.container(border=True):
        st.subheader(t("Authenticator app"), anchor=False)
        st.markdown(t("A code of six digits that an app on your phone shows."))
        if st.button(t("Set up app"), key="enrolment_totp", width="stretch"):
            proof.first(lambda: new_factors.set_up_app(_app_added))


def _passkey_added() -> None:
    _added("passkey")


def _app_added() -> None:
    _added("totp")


def _added(kind: str) -> None:
    sign_in.prove(second_factor=kind)
    remembered(Progress).codes = True


def _codes(user: SignedIn) -> None:
    st.title(t("Keep your recovery codes"), anchor=False)
    new_factors.show_new_codes(user, key="enrolment")
    st.button(
        t("I have kept them, go on"),
        key="enrolment_done",
        type="primary",
        width="stretch",
        on_click=_over,
    )


def _over() -> None:
    remembered(Progress).codes = False
    new_factors.forget_codes()
