"""Two-step sign-in on the Profile page: passkeys, the authenticator app, recovery codes."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from papita_core.errors import InvalidInput
from papita_core.users.factors import Factors
from papita_core.users.passkeys import PasskeyInfo
from papita_core.users.recovery import FEW
from portal import proof, wiring
from portal.confirm import Question, confirm
from portal.dialogs import dialog
from portal.profile.new_factors import (
    CAPABILITY,
    add_passkey,
    forget_codes,
    set_up_app,
    show_new_codes,
)
from portal.session import SignedIn, actor, remembered, require_user, tab
from portal.texts import N_, t, tn, translated
from portal.words import ago, plain, show_field_error


@dataclass(slots=True)
class Section:
    """`codes`: recovery codes are due, now that there is a factor. `renaming` says that a new name
    was taken, `problem` that it was not.
    """

    codes: bool = False
    renamed: bool = False
    problem: str = ""


def show_factors(user: SignedIn) -> None:
    """The section. The page ends with `proof.resume()`, as all do that ask for proof."""
    papita = wiring.services().papita
    has = papita.factors.overview(user.actor)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.subheader(t("Two-step sign-in"), anchor=False, width="content")
        if has.on:
            st.badge(t("On"), color="green", icon=":material/verified_user:")
        else:
            st.badge(t("Off"), color="gray", icon=":material/remove_moderator:")
        if has.required:
            st.badge(t("Required"), color="orange", icon=":material/gavel:")
    if not has.on:
        st.markdown(
            t(
                "Protect your account with something besides the password, so that whoever learns"
                " it cannot get in."
            )
        )
    _passkeys(papita.passkeys.list(user.actor), papita.passkeys.unavailable, has)
    _app(has)
    if has.on:
        _codes(has)
    section = remembered(Section)
    if section.codes:
        section.codes = False
        _codes_dialog_anew()


# --- passkeys ---


def _passkeys(passkeys: list[PasskeyInfo], unavailable: str | None, has: Factors) -> None:
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            with st.container(gap=None):
                st.markdown(f":material/passkey: **{t('Passkeys')}**")
                st.caption(
                    t(
                        "Sign in by fingerprint, face, PIN or security key, without the password"
                        " or after it."
                    )
                )
            if not unavailable and st.button(
                t("Add passkey"), icon=":material/add:", key="factors_add_passkey"
            ):
                proof.first(lambda: add_passkey(lambda: _added(N_("The passkey is added."), has)))
        if unavailable:
            st.info(translated(unavailable), icon=":material/info:")
        for passkey in passkeys:
            _passkey(passkey)


def _passkey(passkey: PasskeyInfo) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.container(gap=None):
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.markdown(f"**{plain(passkey.name)}**", width="content")
                if passkey.synced:
                    st.badge(t("Synced"), color="blue", icon=":material/sync:")
                if passkey.cloned_at:
                    st.badge(t("Copied"), color="red", icon=":material/warning:")
            st.caption(_history(passkey))
        with st.container(horizontal=True, gap="small", width="content"):
            if st.button(t("Rename"), key=f"factors_rename_{passkey.id}", icon=":material/edit:"):
                proof.first(lambda: _rename(passkey))
            if st.button(t("Remove"), key=f"factors_remove_{passkey.id}", icon=":material/delete:"):
                proof.first(lambda: _ask_to_remove(passkey))
    if passkey.cloned_at:
        st.warning(
            t(
                "There seems to be a copy of this passkey: {when} somebody used it with a counter"
                " of the past, and was refused. Remove it unless you know the reason.",
                when=ago(passkey.cloned_at),
            ),
            icon=":material/warning:",
        )


def _history(passkey: PasskeyInfo) -> str:
    added = t("Added {when}.", when=ago(passkey.created_at))
    if passkey.last_used_at is None:
        return added + " " + t("Never used.")
    return added + " " + t("Last used {when}.", when=ago(passkey.last_used_at))


def _ask_to_remove(passkey: PasskeyInfo) -> None:
    confirm(
        Question(
            t("Remove passkey"),
            t(
                "Remove **{name}**? It opens Papita no longer. Your device may still offer it:"
                " delete it there, too.",
                name=plain(passkey.name),
            ),
            t("Remove"),
            lambda: _remove(passkey),
            CAPABILITY,
        )
    )


def _remove(passkey: PasskeyInfo) -> str:
    wiring.services().papita.passkeys.remove(actor(), passkey.id)
    return t("The passkey {name} is removed.", name=passkey.name)


def _rename(passkey: PasskeyInfo) -> None:
    section = remembered(Section)
    section.renamed, section.problem = False, ""
    st.session_state["factors_name"] = passkey.name
    _rename_dialog(passkey.id)


@dialog(N_("Rename passkey"), icon=":material/edit:")
def _rename_dialog(passkey_id: str) -> None:
    require_user(CAPABILITY)
    section = remembered(Section)
    if section.renamed:
        st.rerun(scope="app")
    with st.form("factors_rename", border=False):
        st.text_input(t("Name"), key="factors_name", max_chars=100)
        if section.problem:
            show_field_error(section.problem)
        st.form_submit_button(
            t("Save"), type="primary", width="stretch", on_click=_take_name, args=(passkey_id,)
        )


def _take_name(passkey_id: str) -> None:
    section = remembered(Section)
    try:
        wiring.services().papita.passkeys.rename(
            actor(), passkey_id, st.session_state.get("factors_name", "")
        )
    except InvalidInput as error:
        section.problem = error.errors.get("name", str(error))
    else:
        section.renamed = True


# --- the authenticator app ---


def _app(has: Factors) -> None:
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        with st.container(gap=None):
            st.markdown(f":material/phone_android: **{t('Authenticator app')}**")
            st.caption(
                t("On since {when}.", when=ago(has.totp_since))
                if has.totp_since
                else t("A code of six digits that an app on your phone shows.")
            )
        notice = N_("The authenticator app is switched on.")
        if has.totp_since is None:
            if st.button(t("Set up app"), icon=":material/qr_code_2:", key="factors_app"):
                proof.first(lambda: set_up_app(lambda: _added(notice, has)))
            return
        with st.container(horizontal=True, gap="small", width="content"):
            if st.button(t("Replace"), icon=":material/sync_alt:", key="factors_app"):
                proof.first(lambda: set_up_app(lambda: _added(notice, has)))
            if st.button(t("Switch off"), icon=":material/toggle_off:", key="factors_app_off"):
                proof.first(_ask_to_switch_off)


def _ask_to_switch_off() -> None:
    confirm(
        Question(
            t("Switch off authenticator app"),
            t("Switch it off? Its codes open Papita no longer."),
            t("Switch off"),
            _switch_off,
            CAPABILITY,
        )
    )


def _switch_off() -> str:
    wiring.services().papita.totp.remove(actor())
    return t("The authenticator app is switched off.")


# --- recovery codes ---


def _added(notice: str, had: Factors) -> None:
    tab().notice = translated(notice)
    remembered(Section).codes = had.codes_left == 0


def _codes(has: Factors) -> None:
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            with st.container(gap=None):
                st.markdown(f":material/emergency: **{t('Recovery codes')}**")
                st.caption(
                    t("{left} of {made} are left.", left=has.codes_left, made=has.codes_made)
                    if has.codes_made
                    else t("You have none yet.")
                )
            if st.button(t("Make new codes"), icon=":material/autorenew:", key="factors_codes"):
                proof.first(_ask_for_new_codes if has.codes_left else _codes_dialog_anew)
        if has.codes_left <= FEW:
            st.warning(
                tn(
                    "Only {count} recovery code is left. Make new ones before you need them.",
                    "Only {count} recovery codes are left. Make new ones before you need them.",
                    has.codes_left,
                )
                if has.codes_left
                else t(
                    "Without recovery codes a lost device keeps you out until an administrator"
                    " helps. Make some now."
                ),
                icon=":material/warning:",
            )


def _ask_for_new_codes() -> None:
    confirm(
        Question(
            t("Make new recovery codes"),
            t("Make ten new codes? Those that you have stop working."),
            t("Make new codes"),
            _order_codes,
            CAPABILITY,
        )
    )


def _order_codes() -> str:
    remembered(Section).codes = True
    return ""


def _codes_dialog_anew() -> None:
    forget_codes()
    _codes_dialog()


@dialog(N_("Keep your recovery codes"), icon=":material/emergency:", dismissible=False)
def _codes_dialog() -> None:
    user = require_user(CAPABILITY)
    show_new_codes(user, key="factors")
    if st.button(t("I have kept them"), key="factors_kept", type="primary", width="stretch"):
        st.rerun(scope="app")
