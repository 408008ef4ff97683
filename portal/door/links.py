"""What one sees who opens an invitation, or a link for a new password."""

from __future__ import annotations

import streamlit as st

from papita_core.app import Papita
from papita_core.errors import AlreadyExists, InvalidInput, LinkRefused, PapitaError
from papita_core.users.links import Invitation, PasswordReset
from papita_core.users.service import User
from portal import sign_in, wiring
from portal.door.account_form import ask_account, new_account
from portal.door.views import FORM, go_to
from portal.new_password import ask_new_password, forget_new_password, new_password
from portal.session import SignedIn, tab
from portal.texts import N_, said, t, translated
from portal.words import plain

INVITE, RESET = "invite", "reset"
ROLES = {
    "administrator": N_(
        "You are invited as an **administrator**: you will look after users, keys and projects."
    ),
    "member": N_("You are invited as a **member**: you can use projects, with keys of your own."),
    "guest": N_("You are invited as a **guest**: you can use projects with keys that are shared."),
}


def opened() -> tuple[str, str] | None:
    """The kind and the token of the link that this address is, if it is one."""
    for kind in (INVITE, RESET):
        if kind in st.query_params:
            return kind, st.query_params[kind]
    return None


def show_link(papita: Papita, kind: str, token: str, user: SignedIn | None) -> None:
    """The page of a link. `user`: whoever is signed in here, for whom the link is not meant."""
    try:
        found = (
            papita.links.invitation(token) if kind == INVITE else papita.links.password_reset(token)
        )
    except LinkRefused as error:
        _show_refusal(error, signed_in=user is not None)
        return
    if user is not None:
        _show_signed_in(user)
    elif isinstance(found, Invitation):
        _show_invitation(found)
    else:
        _show_reset(found)


def _show_refusal(error: LinkRefused, *, signed_in: bool) -> None:
    st.title(t("This link does not work"), anchor=False)
    st.error(said(error), icon=":material/link_off:")
    st.button(
        t("Go to the start page") if signed_in else t("Go to log in"),
        key="link_leave",
        width="stretch",
        on_click=leave,
    )


def _show_signed_in(user: SignedIn) -> None:
    st.title(t("You are logged in already"), anchor=False)
    st.markdown(
        t(
            "You are here as **{name}**. This link is for somebody who is not logged in: log out to"
            " use it, or go on as you are.",
            name=plain(user.name),
        )
    )
    st.button(t("Go on"), key="link_leave", type="primary", width="stretch", on_click=leave)
    sign_in.log_out_button()


def leave(notice: str = "") -> None:
    """For callbacks: the address is that of the start page again."""
    for kind in (INVITE, RESET):
        st.query_params.pop(kind, None)
    tab().errors.pop("link", None)
    go_to(FORM, notice)


def _show_invitation(found: Invitation) -> None:
    st.title(t("Welcome to Papita"), anchor=False)
    st.markdown(translated(ROLES[found.role]))
    errors = tab().errors.get("link", {})
    st.session_state.setdefault("link_email", found.email or "")
    ask_account("link", errors)
    st.button(
        t("Create account"), key="link_use", type="primary", width="stretch", on_click=_accept
    )


def _accept() -> None:
    link = opened()
    if link is None:
        return
    new, errors = new_account("link")
    user: User | None = None
    if not errors:
        try:
            user = wiring.services().papita.links.accept(
                link[1],
                username=new.username,
                display_name=new.display_name,
                email=new.email or "",
                password=new.password,
            )
        except InvalidInput as error:
            errors = error.errors
        except AlreadyExists as error:
            errors = {"username": said(error)}
        except LinkRefused:
            errors = {}  # the page says why
        except PapitaError as error:
            errors = {"password": said(error)}
    tab().errors["link"] = errors
    if user is not None:
        forget_new_password("link")
        leave()
        sign_in.finish(user, method="invitation", remember=False)
        tab().notice = t("Welcome, {name}.", name=user.display_name)


def _show_reset(found: PasswordReset) -> None:
    st.title(t("Set a new password"), anchor=False)
    st.markdown(
        t(
            "For **{name}**. You will be logged out wherever you are logged in, and what projects"
            " have borrowed is taken back.",
            name=plain(found.display_name or found.username),
        )
    )
    errors = tab().errors.get("link", {})
    with st.container(gap="small"):
        # Password managers save the new password under this name.
        st.text_input(
            t("Username"), found.username, disabled=True, autocomplete="username", key="link_whose"
        )
        ask_new_password("link", errors, found.username, found.display_name, found.email or "")
    st.button(
        t("Set password"), key="link_use", type="primary", width="stretch", on_click=_set_password
    )


def _set_password() -> None:
    link = opened()
    if link is None:
        return
    password, errors = new_password("link")
    if not errors:
        try:
            wiring.services().papita.links.set_password(link[1], password)
        except InvalidInput as error:
            errors = error.errors
        except LinkRefused:
            errors = {}  # the page says why
        except PapitaError as error:
            errors = {"password": said(error)}
        else:
            forget_new_password("link")
            leave(t("Your password is set. Log in with it."))
            return
    tab().errors["link"] = errors
