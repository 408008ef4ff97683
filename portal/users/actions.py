"""What an administrator can do with one user: a menu, and the questions that it asks.

Every one of them is checked by its service, which wants a fresh proof of who sits there; the page
asks for that first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import streamlit as st

from papita_core.errors import PapitaError
from papita_core.users.directory import ListedUser
from portal import proof, wiring
from portal.confirm import Question, attempt, confirm
from portal.dialogs import close_when_done, dialog
from portal.session import SignedIn, actor, require_user, tab
from portal.texts import N_, said, t, translated
from portal.users.shown_once import begin, show_link_once
from portal.words import plain

CAPABILITY: Final = "users:manage"
ROLES: Final = {
    "administrator": N_("Looks after users, keys, projects and the log, and does what members do."),
    "member": N_("Uses projects, with keys of their own or with shared ones."),
    "guest": N_("Uses projects with shared keys alone, and stores none."),
}
ROLE_NAMES: Final = (N_("administrator"), N_("member"), N_("guest"))
ROLE, LINK, FACTORS, SESSIONS = "role", "reset-link", "factors", "sessions"
DISABLE, ENABLE, DELETE = "disable", "enable", "delete"
LABELS: Final = {
    ROLE: (":material/badge:", N_("Change role")),
    LINK: (":material/password:", N_("Link for a new password")),
    FACTORS: (":material/phonelink_erase:", N_("Reset second factor")),
    SESSIONS: (":material/devices_off:", N_("End all sessions")),
    DISABLE: (":material/person_off:", N_("Disable")),
    ENABLE: (":material/person_check:", N_("Enable")),
    DELETE: (":material/delete_forever:", N_("Delete")),
}


def show_menu(user: SignedIn, other: ListedUser) -> None:
    """The menu of one row."""
    own = other.id == user.session.user_id
    options = [ROLE]
    if not other.disabled:
        options.append(LINK)
    if other.second_factor and not own:
        options.append(FACTORS)
    options += [] if other.disabled else [SESSIONS]
    options.append(ENABLE if other.disabled else DISABLE)
    options += [] if own else [DELETE]  # one's own account is deleted on one's own page
    choice = st.menu_button(
        t("Actions"),
        options,
        format_func=_label,
        key=f"users_menu_{other.id}",
        help=t("What you can do with {name}", name=plain(other.username)),
    )
    if choice is not None:
        proof.first(partial(_ACTS[choice], other, own))


def _label(option: str) -> str:
    icon, text = LABELS[option]
    return f"{icon} {translated(text)}"


# --- the role ---


def _change_role(other: ListedUser, own: bool) -> None:
    tab().dialog_done = False
    tab().errors.pop("role", None)
    _role_dialog(other, own)


@dialog(N_("Change role"), icon=":material/badge:")
def _role_dialog(other: ListedUser, own: bool) -> None:
    require_user(CAPABILITY)
    close_when_done()
    st.markdown(
        t("Which role does **{name}** have? It is in force at once.", name=plain(other.username))
    )
    chosen = st.radio(
        t("Role"),
        list(ROLES),
        index=list(ROLES).index(other.role),
        format_func=translated,
        captions=[translated(text) for text in ROLES.values()],
        key=f"users_role_{other.id}",
        label_visibility="collapsed",
    )
    if own and chosen != "administrator":
        st.warning(
            t("This is you: you will not come back to this page."), icon=":material/warning:"
        )
    problem = tab().errors.get("role", {}).get("form")
    if problem:
        st.error(problem, icon=":material/error:")
    st.button(
        t("Save"),
        type="primary",
        width="stretch",
        key="users_role_save",
        disabled=chosen == other.role,
        on_click=_save_role,
        args=(other, chosen),
    )


def _save_role(other: ListedUser, role: str) -> None:
    try:
        wiring.services().papita.users.set_role(actor(), other.username, role)
    except PapitaError as error:
        tab().errors["role"] = {"form": said(error)}
    else:
        tab().dialog_done = True
        tab().notice = t("{name} is {role} now.", name=other.username, role=translated(role))


# --- a link for a new password ---


def _make_link(other: ListedUser, own: bool) -> None:
    begin(partial(_reset_link, other, own))


@dialog(N_("Link for a new password"), icon=":material/password:")
def _reset_link(other: ListedUser, own: bool) -> None:
    user = require_user(CAPABILITY)
    close_when_done()
    questions, answer = st.empty(), st.container()
    with questions.container():
        st.markdown(
            t(
                "The link lets **{name}** set a new password, once and within a day. Links that"
                " were made before stop working. Once it is used, {name} is logged out everywhere;"
                " a second factor is asked for as always.",
                name=plain(other.username),
            )
        )
        pressed = st.button(t("Make link"), type="primary", width="stretch", key="users_link_make")
        problem = st.empty()
    if not pressed:
        return
    try:
        made = wiring.services().papita.links.reset_link(user.actor, other.username)
    except PapitaError as error:
        problem.error(said(error), icon=":material/error:")
    else:
        questions.empty()
        with answer:
            show_link_once(
                made,
                t(
                    "Give this link to **{name}**, and to nobody else: whoever has it sets the"
                    " password.",
                    name=plain(other.username),
                ),
            )


# --- what is asked first ---


def _ask(title: str, text: str, button: str, act: Callable[[], object], notice: str) -> None:
    def done() -> str:
        act()
        return notice

    confirm(Question(title, text, button, done, CAPABILITY))


def _reset_factors(other: ListedUser, own: bool) -> None:
    _ask(
        t("Reset second factor"),
        t(
            "Take passkeys, authenticator app and recovery codes of **{name}** away? They are"
            " logged out everywhere and come in with the password alone, until they set up a second"
            " factor again. Do this only if you know that it is they who ask.",
            name=plain(other.username),
        ),
        t("Reset"),
        lambda: wiring.services().papita.factors.reset(actor(), other.username),
        t("{name} has no second factor any more.", name=other.username),
    )


def _end_sessions(other: ListedUser, own: bool) -> None:
    text = t(
        "Log **{name}** out everywhere? What projects have borrowed is taken back: an answer that"
        " is being written ends within seconds, and what was written stays.",
        name=plain(other.username),
    )
    _ask(
        t("End all sessions"),
        _also_you(text) if own else text,
        t("End all"),
        lambda: wiring.services().papita.users.end_sessions(actor(), other.username),
        t("{name} is logged out everywhere.", name=other.username),
    )


def _disable(other: ListedUser, own: bool) -> None:
    text = t(
        "Disable **{name}**? From this moment {name} is signed out everywhere, access tokens stop"
        " working, and what projects have borrowed for them is taken back: an answer that is being"
        " written ends within seconds. Nothing is deleted.",
        name=plain(other.username),
    )
    _ask(
        t("Disable user"),
        _also_you(text) if own else text,
        t("Disable"),
        lambda: wiring.services().papita.users.set_disabled(actor(), other.username, True),
        t("{name} is disabled and signed out everywhere.", name=other.username),
    )


def _also_you(text: str) -> str:
    return text + " " + t("**This is you: you will be signed out.**")


def _enable(other: ListedUser, own: bool) -> None:
    attempt(
        lambda: wiring.services().papita.users.set_disabled(actor(), other.username, False),
        t("{name} can sign in again.", name=other.username),
    )
    st.rerun()


def _delete(other: ListedUser, own: bool) -> None:
    _ask(
        t("Delete user"),
        t(
            "Delete **{name}** for good? Their keys are destroyed, AL-Chat deletes their"
            " conversations, and nobody can bring any of it back. Disabling keeps them out and"
            " deletes nothing.",
            name=plain(other.username),
        ),
        t("Delete for good"),
        lambda: wiring.services().papita.account.delete(actor(), other.id),
        t("{name} is deleted.", name=other.username),
    )


_ACTS: Final[dict[str, Callable[[ListedUser, bool], None]]] = {
    ROLE: _change_role,
    LINK: _make_link,
    FACTORS: _reset_factors,
    SESSIONS: _end_sessions,
    DISABLE: _disable,
    ENABLE: _enable,
    DELETE: _delete,
}


# --- whoever waits for something ---


def make_link(other: ListedUser) -> None:
    """Asks for a proof where one is needed, then shows the dialog of the link."""
    proof.first(partial(_make_link, other, False))


def decide(act: Callable[[], object], notice: str) -> None:
    """Does at once what needs no question, behind a proof."""

    def now() -> None:
        attempt(act, notice)
        st.rerun()

    proof.first(now)
