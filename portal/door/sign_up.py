"""Signing up, where the policy lets strangers. Whether a name was free is told to nobody."""

from __future__ import annotations

import streamlit as st

from papita_core.app import Papita
from papita_core.errors import InvalidInput, PapitaError
from papita_core.users.sign_up import APPROVAL, CLOSED
from portal import wiring
from portal.door.account_form import ask_account, new_account
from portal.door.views import SIGN_UP, back_button, go_to, view
from portal.new_password import forget_new_password
from portal.session import address, tab
from portal.texts import N_, said, t, translated

ANSWERS = {
    "open": N_(
        "You can log in now with this name and password. If that does not work, the name or the"
        " e-mail is taken: sign up with another one."
    ),
    APPROVAL: N_(
        "Your request is noted. An administrator will look at it; once they have said yes, you can"
        " log in with this name and password. If it takes long, ask them: the name or the e-mail"
        " may be taken."
    ),
}


def show_sign_up_button(papita: Papita) -> None:
    """Below the form, where there is a way to sign up."""
    if papita.policies.current().sign_up != CLOSED:
        st.button(
            t("Create an account"),
            key="door_sign_up",
            type="tertiary",
            on_click=go_to,
            args=(SIGN_UP,),
        )


def show_sign_up(papita: Papita) -> None:
    st.title(t("Create an account"), anchor=False)
    if view().done:
        st.success(translated(ANSWERS[view().done]), icon=":material/check_circle:")
        back_button(t("Go to log in"))
        return
    if papita.policies.current().sign_up == APPROVAL:
        st.markdown(t("An administrator looks at each request before anybody can log in."))
    errors = tab().errors.get("sign_up", {})
    ask_account("sign_up", errors)
    if "form" in errors:
        st.error(errors["form"], icon=":material/error:")
    st.button(t("Sign up"), key="sign_up_send", type="primary", width="stretch", on_click=_sign_up)
    back_button()


def _sign_up() -> None:
    new, errors = new_account("sign_up")
    if not errors:
        try:
            done = wiring.services().papita.sign_up.sign_up(new, address=address())
        except InvalidInput as error:
            errors = error.errors
        except PapitaError as error:
            errors = {"form": said(error)}
        else:
            forget_new_password("sign_up")
            view().done = done
    tab().errors["sign_up"] = errors
