"""The password: changed behind a proof, with its strength shown while it is typed."""

from __future__ import annotations

from typing import Final

import streamlit as st

from papita_core.errors import InvalidInput, PapitaError
from papita_core.users.account import Account
from papita_core.users.passwords import MIN_LENGTH, Strength, strength
from portal import proof, sign_in, wiring
from portal.dialogs import dialog
from portal.session import actor, require_user, tab
from portal.texts import N_, said, t, translated
from portal.words import AT_ONCE, plain, show_field_error

FORM: Final = "new_password"
# Word and colour of each score.
SCORES: Final = (
    (N_("Very weak"), "red"),
    (N_("Weak"), "red"),
    (N_("Fair"), "orange"),
    (N_("Good"), "green"),
    (N_("Strong"), "green"),
)


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
    for name in ("first", "second"):
        st.session_state.pop(f"{FORM}_{name}", None)


@dialog(N_("New password"), icon=":material/password:", on_dismiss=_clear)
def _dialog(account: Account) -> None:
    require_user("profile")
    if tab().dialog_done:
        tab().dialog_done = False
        st.rerun(scope="app")
    errors = tab().errors.get(FORM, {})
    typed = st.text_input(
        t("New password"),
        type="password",
        key=f"{FORM}_first",
        autocomplete="new-password",
        live="250ms",
        help=t("At least {count} characters. A few unrelated words are good.", count=MIN_LENGTH),
    )
    # A place that is always there: the field below must not move while somebody types into it.
    with st.container():
        if typed:
            show_strength(typed, account.username, account.display_name, account.email or "")
    if "password" in errors:
        show_field_error(errors["password"])
    st.text_input(
        t("New password again"),
        type="password",
        key=f"{FORM}_second",
        autocomplete="new-password",
        on_change="ignore",
        live=AT_ONCE,
    )
    if "repeat" in errors:
        show_field_error(errors["repeat"])
    if "form" in errors:
        st.error(errors["form"], icon=":material/error:")
    st.button(
        t("Save password"), type="primary", width="stretch", key=f"{FORM}_save", on_click=_save
    )


def show_strength(password: str, *words: str) -> None:
    """A bar, a word for it, and what would help; `words` are those that others know of the user."""
    found = strength(password, *words)
    if len(password) < MIN_LENGTH:
        found = Strength(min(found.score, 1), found.advice)
    word, colour = SCORES[found.score]
    bar = "".join("●" if step < found.score else "○" for step in range(4))
    advice = f" {plain(translated(found.advice))}" if found.advice else ""
    st.markdown(f":{colour}[{bar} **{translated(word)}**]{advice}")


def _save() -> None:
    password = st.session_state.get(f"{FORM}_first", "")
    repeated = st.session_state.get(f"{FORM}_second", "")
    tab().errors.pop(FORM, None)
    if password != repeated:
        tab().errors[FORM] = {"repeat": t("The two passwords are not the same.")}
        return
    try:
        wiring.services().papita.account.change_password(actor(), password)
        sign_in.prove()
    except InvalidInput as error:
        tab().errors[FORM] = error.errors
    except PapitaError as error:
        tab().errors[FORM] = {"form": said(error)}
    else:
        for name in ("first", "second"):
            st.session_state[f"{FORM}_{name}"] = ""
        _clear()
        tab().dialog_done = True
        tab().notice = t("The password is changed. You are signed out everywhere else.")
