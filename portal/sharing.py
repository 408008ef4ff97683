"""The dialog in which an administrator lets others use a credential, without seeing it."""

from __future__ import annotations

import streamlit as st

from papita_core.errors import PapitaError, PreconditionFailed
from papita_core.vault.service import CredentialInfo
from portal import wiring
from portal.dialogs import close_when_done, dialog
from portal.session import actor, require_user, tab
from portal.texts import N_, said, t, translated
from portal.words import plain

FORM = "share"
NOBODY, NAMED, EVERYBODY = N_("Only me"), N_("Named users"), N_("Everybody")
EXPLAINED = N_(
    "They can use it through projects and never see it: no page and no program shows it. Whoever"
    " has a key of their own uses that one. Every use is recorded under **Uses**, with their name;"
    " the bill is yours."
)


def _clear() -> None:
    tab().errors.pop(FORM, None)
    for name in ("who", "users"):
        st.session_state.pop(f"{FORM}_{name}", None)


@dialog(N_("Share credential"), icon=":material/group:", on_dismiss=_clear)
def share_credential(info: CredentialInfo) -> None:
    """Nobody, everybody or named users; what is chosen replaces what was."""
    user = require_user("credentials:share")
    state = tab()
    close_when_done(_clear)
    papita = wiring.services().papita
    shares = papita.credentials.shares(user.actor, info.id)
    # The first ones to choose from; whoever is not among them is typed.
    others = [name for name in papita.users.names(user.actor) if name != user.session.username]
    st.markdown(t("Who may use **{label}**?", label=plain(info.label)))
    before = EVERYBODY if shares.everybody else NAMED if shares.usernames else NOBODY
    who = st.radio(
        t("Who may use it"),
        (NOBODY, NAMED, EVERYBODY),
        format_func=translated,
        index=(NOBODY, NAMED, EVERYBODY).index(before),
        key=f"{FORM}_who",
        label_visibility="collapsed",
    )
    if who == NAMED:
        st.multiselect(
            t("Users"),
            sorted({*others, *shares.usernames}),
            default=list(shares.usernames),
            key=f"{FORM}_users",
            placeholder=t("Choose users") if others else t("There is no other user yet"),
            accept_new_options=True,
            on_change="ignore",
        )
    st.caption(translated(EXPLAINED))
    problem = st.empty()
    if FORM in state.errors:
        problem.error(plain(state.errors[FORM]["form"]), icon=":material/error:")
    st.button(
        t("Save"),
        type="primary",
        key=f"{FORM}_save",
        width="stretch",
        on_click=_share,
        args=(info, who),
    )


def _share(info: CredentialInfo, who: str) -> None:
    state = tab()
    names = st.session_state.get(f"{FORM}_users", []) if who == NAMED else []
    if who == NAMED and not names:
        state.errors[FORM] = {"form": t("Choose at least one user, or share with nobody.")}
        return
    try:
        wiring.services().papita.credentials.share(
            actor(), info.id, everybody=who == EVERYBODY, usernames=names, etag=info.etag
        )
    except PreconditionFailed:
        state.notice = t(
            "{label} was changed meanwhile, in another tab or by a program. Nothing was shared."
            " Look at it as it is now and share it again.",
            label=info.label,
        )
    except PapitaError as error:
        state.errors[FORM] = {"form": said(error)}
        return
    else:
        state.notice = _said(info.label, who, names)
    state.dialog_done = True


def _said(label: str, who: str, names: list[str]) -> str:
    if who == EVERYBODY:
        return t("Everybody here can use {label} through projects.", label=label)
    if who == NAMED:
        return t("{names} can use {label} through projects.", names=", ".join(names), label=label)
    return t("Nobody but you uses {label} any more.", label=label)
