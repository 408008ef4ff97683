"""What the user is called and can be reached by, and how the pages look for them."""

from __future__ import annotations

from typing import Final

import streamlit as st

from papita_core.errors import InvalidInput, PapitaError
from papita_core.users.account import Account
from papita_core.users.preferences import COLOURS, THEMES, zones
from portal import proof, wiring
from portal.confirm import attempt
from portal.session import SignedIn, actor, tab
from portal.texts import N_, said, t, translated
from portal.words import show_field_error

FORM: Final = "profile"
THEME_WORDS: Final = {
    "system": (":material/contrast:", N_("As the system")),
    "light": (":material/light_mode:", N_("Light")),
    "dark": (":material/dark_mode:", N_("Dark")),
}
COLOUR_WORDS: Final = {
    "": N_("By name"),
    "amber": N_("Amber"),
    "olive": N_("Olive"),
    "green": N_("Green"),
    "teal": N_("Teal"),
    "blue": N_("Blue"),
    "violet": N_("Violet"),
    "rose": N_("Rose"),
    "grey": N_("Grey"),
}


def show_details(user: SignedIn, account: Account) -> None:
    errors = tab().errors.get(FORM, {})
    st.subheader(t("Name and e-mail"), anchor=False)
    _name(account, errors)
    _email(account, errors)
    st.subheader(t("How the pages look"), anchor=False)
    _appearance(user)


# --- name and e-mail ---


def _name(account: Account, errors: dict[str, str]) -> None:
    st.session_state.setdefault("profile_name", account.display_name)
    with st.form("profile_name_form", border=True):
        st.text_input(
            t("Display name"),
            key="profile_name",
            max_chars=200,
            autocomplete="name",
            help=t("What others see. The user name, with which you sign in, stays as it is."),
        )
        if "displayName" in errors:
            show_field_error(errors["displayName"])
        st.form_submit_button(t("Save name"), on_click=_save_name)


def _save_name() -> None:
    _forget_errors()
    try:
        wiring.services().papita.account.rename(actor(), st.session_state["profile_name"])
    except InvalidInput as error:
        tab().errors[FORM] = error.errors
    else:
        del st.session_state["profile_name"]
        tab().look = None
        tab().notice = t("The name is saved.")


def _email(account: Account, errors: dict[str, str]) -> None:
    st.session_state.setdefault("profile_email", account.email or "")
    with st.form("profile_email_form", border=True):
        st.text_input(
            t("E-mail"),
            key="profile_email",
            max_chars=320,
            autocomplete="email",
            help=t("You can sign in with it as well. Nobody but administrators sees it."),
        )
        if "email" in errors:
            show_field_error(errors["email"])
        with st.container(horizontal=True, vertical_alignment="center"):
            pressed = st.form_submit_button(t("Save e-mail"))
            if account.email and account.email_verified:
                st.badge(t("Verified"), color="green", icon=":material/verified:")
            elif account.email:
                st.badge(t("Not verified"), color="gray", icon=":material/unpublished:")
    if pressed:
        proof.first(_save_email)


def _save_email() -> None:
    _forget_errors()
    try:
        wiring.services().papita.account.change_email(actor(), st.session_state["profile_email"])
    except InvalidInput as error:
        tab().errors[FORM] = error.errors
    except PapitaError as error:
        tab().errors[FORM] = {"email": said(error)}
    else:
        del st.session_state["profile_email"]
        tab().notice = t("The e-mail is saved.")
    st.rerun(scope="app")


def _forget_errors() -> None:
    tab().errors.pop(FORM, None)


# --- how the pages look ---


def _appearance(user: SignedIn) -> None:
    chosen = user.session.appearance
    st.session_state.setdefault("profile_theme", chosen.theme)
    st.session_state.setdefault("profile_colour", chosen.colour)
    st.session_state.setdefault("profile_zone", chosen.zone)
    with st.container(border=True):
        st.segmented_control(
            t("Theme"),
            THEMES,
            required=True,
            format_func=lambda name: f"{THEME_WORDS[name][0]} {translated(THEME_WORDS[name][1])}",
            key="profile_theme",
            on_change=_change,
            args=("theme",),
        )
        st.pills(
            t("Colour of your picture"),
            ("", *COLOURS),
            required=True,
            format_func=lambda name: translated(COLOUR_WORDS[name]),
            key="profile_colour",
            on_change=_change,
            args=("colour",),
        )
        st.selectbox(
            t("Time zone"),
            ("", *sorted(zones())),
            format_func=_zone_words,
            key="profile_zone",
            on_change=_change,
            args=("zone",),
            help=t("Type to search, for instance for a city."),
        )


def _zone_words(name: str) -> str:
    if name:
        return name.replace("_", " ")
    browser = st.context.timezone
    if isinstance(browser, str) and browser:
        return t("As the browser ({zone})", zone=browser.replace("_", " "))
    return t("As the browser")


def _change(what: str) -> None:
    value: str | None = st.session_state[f"profile_{what}"]
    attempt(
        lambda: wiring.services().papita.preferences.change_appearance(
            actor(), **{what: value or ""}
        ),
        t("Saved."),
    )
    tab().look = None
