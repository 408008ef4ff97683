"""What is refused at this moment after too many tries, and letting somebody try again at once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import streamlit as st

from papita_core.users.limits import Lockout
from portal import wiring
from portal.confirm import attempt
from portal.session import SignedIn, actor
from portal.texts import N_, t, tn, translated
from portal.words import plain

# What is counted, by the first part of its kind; another one shows its own name.
KINDS: Final = {
    "sign-in": N_("Logging in"),
    "totp": N_("Codes of an authenticator app"),
    "recovery": N_("Recovery codes"),
    "passkey": N_("Passkeys"),
    "sign-up": N_("Signing up"),
    "forgotten": N_("Asking for a new password"),
    "account-email": N_("Changing the e-mail"),
    "oidc": N_("Logging in at an identity provider"),
    "oidc-logout": N_("Logging out by an identity provider"),
}


def show_lockouts(user: SignedIn) -> None:
    st.caption(
        t(
            "Too many tries are refused for minutes, by account and by address. That ends by"
            " itself; here it ends at once."
        )
    )
    found = wiring.services().papita.limits.locked(user.actor)
    if not found:
        st.info(t("Nobody is locked out."), icon=":material/lock_open:")
        return
    with st.container(gap="small"):
        for each in found:
            _row(each)
    if len(found) > 1:
        st.button(
            t("Clear all"),
            icon=":material/lock_reset:",
            key="users_clear_all",
            on_click=_clear,
            args=(found,),
        )


def _row(each: Lockout) -> None:
    what = each.kind.partition(".")[0]
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        with st.container(gap=None):
            st.markdown(f"**{plain(translated(KINDS.get(what, what)))}**")
            who = [name for name in (each.username, each.address) if name] or [t("everybody")]
            minutes = max(1, int((each.until - datetime.now(UTC)).total_seconds() / 60) + 1)
            tries = tn("{count} try", "{count} tries", each.tries)
            ends = tn("ends in {count} minute", "ends in {count} minutes", minutes)
            st.caption(plain(" · ".join([*who, tries, ends])))
        st.button(
            t("Clear"),
            icon=":material/lock_reset:",
            key=f"users_clear_{each.kind}_{each.key}",
            on_click=_clear,
            args=([each],),
        )


def _clear(which: list[Lockout]) -> None:
    def clear() -> None:
        for each in which:
            wiring.services().papita.limits.clear(actor(), key=each.key)

    attempt(clear, t("They can try again at once."))
