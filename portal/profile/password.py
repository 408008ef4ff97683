"""The password: changed behind a proof, with its strength shown while it is typed."""

from __future__ import annotations

from typing import Final

import streamlit as st

from papita_core.errors import InvalidInput, PapitaError
from papita_core.users.account import Account
from portal import proof, sign_in, wiring
from portal.dialogs import close_when_done, dialog
from portal.new_password import FIELDS, ask_new_password, forget_new_password, new_password
from portal.session import actor, require_user, tab
from portal.texts import N_, said, t

FORM: Final = "new_password"


def show_password(account: Account) -> None:
    st.subheader(t("Password"), anchor=False)
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        if account.has_password:
            st.markdown(
                t("A new password ends all your other sessions, and what they have borrowed.")
            )
            label = t("Change password")
        else:
            st.markdown(t("You sign in without a password. You may set one besides."))
            label = t("Set password")
        if st.button(label, icon=":material/password:", key="profile_password"):
            proof.first(lambda: _dialog(account))


def _clear() -> None:
    tab().errors.pop(FORM, None)
    for name in FIELDS:
        st.session_state.pop(f"{FORM}_{name}", None)


@dialog(N_("New password"), icon=":material/password:", on_dismiss=_clear)
def _dialog(account: Account) -> None:
    require_user("profile")
    close_when_done()
    errors = tab().errors.get(FORM, {})
    known = account.username, account.display_name, account.email or ""
    ask_new_password(FORM, errors, *known, instead=True)
    if "form" in errors:
        st.error(errors["form"], icon=":material/error:")
    st.button(
        t("Save password"), type="primary", width="stretch", key=f"{FORM}_save", on_click=_save
    )


def _save() -> None:
    password, errors = new_password(FORM)
    tab().errors.pop(FORM, None)
    if errors:
        tab().errors[FORM] = errors
        return
    try:
        wiring.services().papita.account.change_password(actor(), password)
        sign_in.prove()
    except InvalidInput as error:
        tab().errors[FORM] = error.errors
    except PapitaError as error:
        tab().errors[FORM] = {"form": said(error)}
    else:
        forget_new_password(FORM)
        _clear()
        tab().dialog_done = True
        tab().notice = t("The password is changed. You are signed out everywhere else.")
