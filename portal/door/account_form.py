"""The fields of a new account, as somebody fills them in who was invited or signs up."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from papita_core.users.service import NewUser
from portal.new_password import ask_new_password, new_password
from portal.texts import t
from portal.words import show_field_error


def ask_account(prefix: str, errors: Mapping[str, str]) -> None:
    """The fields, under keys that begin with `prefix`; below each what is wrong with it, by the
    names that services use.
    """
    fields = (
        (t("Username"), "username", "username"),
        (t("Display name"), "displayName", "name"),
        (t("E-mail (optional)"), "email", "email"),
    )
    typed = []
    with st.container(gap="small"):
        for label, name, autocomplete in fields:
            typed.append(
                st.text_input(label, key=f"{prefix}_{name}", autocomplete=autocomplete) or ""
            )
            if name in errors:
                show_field_error(errors[name])
        ask_new_password(prefix, errors, *typed)


def new_account(prefix: str) -> tuple[NewUser, dict[str, str]]:
    """What was typed, and what is wrong with it as it stands here alone."""
    password, errors = new_password(prefix)
    username, shown, email = (
        st.session_state.get(f"{prefix}_{name}") or ""
        for name in ("username", "displayName", "email")
    )
    return NewUser(username, password, shown, email), errors
