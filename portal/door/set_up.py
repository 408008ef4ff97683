"""The first-run set-up: the first administrator, made with the code of the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from papita_core.app import Papita
from papita_core.errors import InvalidInput, PapitaError
from papita_core.users.service import User
from portal import sign_in, wiring
from portal.session import tab
from portal.texts import said, t
from portal.words import show_field_error


def show_set_up(papita: Papita) -> None:
    st.title(t("Welcome to Papita"), anchor=False)
    st.markdown(
        t(
            "Create the first administrator. The set-up code is in the terminal in which Papita"
            " runs."
        )
    )
    errors = tab().errors.get("setup", {})
    st.session_state.setdefault("setup_code", st.query_params.get("setup", ""))
    with st.form("setup", border=False):
        _field(t("Set-up code"), "code", errors, autocomplete="off")
        _field(t("Username"), "username", errors, autocomplete="username")
        _field(t("Display name"), "display_name", errors, autocomplete="name")
        _field(t("Password"), "password", errors, autocomplete="new-password", type="password")
        _field(t("Password again"), "repeat", errors, autocomplete="new-password", type="password")
        st.form_submit_button(
            t("Create administrator"), type="primary", width="stretch", on_click=_complete_setup
        )


def _field(label: str, name: str, errors: Mapping[str, str], **options: Any) -> None:
    st.text_input(label, key=f"setup_{name}", **options)
    if name in errors:
        show_field_error(errors[name])


def _complete_setup() -> None:
    papita = wiring.services().papita
    values = {
        name: st.session_state.get(f"setup_{name}", "")
        for name in ("code", "username", "display_name", "password", "repeat")
    }
    errors: dict[str, str] = {}
    user: User | None = None
    if values["password"] != values.pop("repeat"):
        errors["repeat"] = t("The two passwords are not the same.")
    else:
        try:
            user = papita.setup.complete(**values)
        except InvalidInput as error:
            errors = error.errors
        except PapitaError as error:
            errors["code"] = said(error)
    tab().errors["setup"] = errors
    if user is not None:
        for name in ("code", "password", "repeat"):
            st.session_state[f"setup_{name}"] = ""
        st.query_params.pop("setup", None)
        sign_in.finish(user, method="set-up")
