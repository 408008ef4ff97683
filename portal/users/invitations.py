"""Inviting somebody by a link, and the invitations that can still be used."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import streamlit as st

from papita_core.errors import InvalidInput, PapitaError
from papita_core.users.links import Invitation
from portal import proof, wiring
from portal.confirm import Question, confirm
from portal.dialogs import close_when_done, dialog
from portal.people import show_person
from portal.session import SignedIn, actor, require_user
from portal.texts import N_, said, t, translated
from portal.users.actions import CAPABILITY, ROLES
from portal.users.shown_once import begin, show_link_once
from portal.words import ago, day, show_field_error

LASTS: Final = {
    timedelta(hours=1): N_("1 hour"),
    timedelta(days=1): N_("1 day"),
    timedelta(days=7): N_("7 days"),
    timedelta(days=30): N_("30 days"),
}


def show_invite_button() -> None:
    if st.button(t("Invite"), icon=":material/person_add:", type="primary", key="users_invite"):
        proof.first(lambda: begin(_invite))


def _clear() -> None:
    for name in ("role", "lasts", "email", "note"):
        st.session_state.pop(f"invite_{name}", None)


@dialog(N_("Invite somebody"), icon=":material/person_add:", on_dismiss=_clear)
def _invite() -> None:
    user = require_user(CAPABILITY)
    close_when_done()
    questions, answer = st.empty(), st.container()
    with questions.container(), st.form("invite", border=False):
        role = st.radio(
            t("Role"),
            list(ROLES),
            index=1,
            format_func=translated,
            captions=[translated(text) for text in ROLES.values()],
            key="invite_role",
        )
        email = st.text_input(t("E-mail (optional)"), key="invite_email", max_chars=320)
        email_problem = st.empty()
        note = st.text_input(
            t("Note (optional)"),
            key="invite_note",
            max_chars=200,
            placeholder=t("For administrators: who it is for"),
        )
        lasts = st.segmented_control(
            t("Ends after"),
            list(LASTS),
            default=timedelta(days=7),
            required=True,
            format_func=lambda span: translated(LASTS[span]),
            key="invite_lasts",
            width="stretch",
        )
        pressed = st.form_submit_button(
            t("Make link"), type="primary", width="stretch", key="users_invite_make"
        )
        problem = st.empty()
    if not pressed:
        return
    try:
        made = wiring.services().papita.links.invite(
            user.actor,
            role=role,
            email=email or "",
            note=note or "",
            lasts=lasts or timedelta(days=7),
        )
    except InvalidInput as error:
        with email_problem:
            show_field_error(said(error))
    except PapitaError as error:
        problem.error(said(error), icon=":material/error:")
    else:
        questions.empty()
        with answer:
            show_link_once(
                made,
                t(
                    "Send this link to whoever you invite, and to nobody else: whoever opens it"
                    " first gets the account."
                ),
            )


def show_invitations(user: SignedIn) -> None:
    pending = wiring.services().papita.links.invitations(user.actor)
    if not pending:
        st.info(
            t("No invitation is open. **Invite** makes a link that serves once."),
            icon=":material/mail:",
        )
    with st.container(gap="small"):
        for each in pending:
            _row(each)


def _row(each: Invitation) -> None:
    title = each.note or each.email or t("Invitation")
    made = t("Made {when} by {name}.", when=ago(each.created_at), name=each.created_by)
    below = [each.email] if each.email and each.email != title else []
    ends = t("Ends {when}.", when=day(each.expires_at))
    below.append(f"{translated(each.role)} · {made} {ends}")
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        with st.container():
            show_person(title, "grey", "\n".join(below))
        if st.button(t("Revoke"), icon=":material/link_off:", key=f"users_revoke_{each.id}"):
            proof.first(lambda: _ask_revoke(each))


def _ask_revoke(each: Invitation) -> None:
    def revoke() -> str:
        wiring.services().papita.links.revoke(actor(), each.id)
        return t("The invitation is taken back.")

    confirm(
        Question(
            t("Revoke invitation"),
            t("Whoever has this link can do nothing with it any more."),
            t("Revoke"),
            revoke,
            CAPABILITY,
        )
    )
