"""What administrators decide for everybody: second factor, sign-up, accounts found by e-mail."""

from __future__ import annotations

from typing import Final

import streamlit as st

from papita_core.users.policies import LINK_BY_EMAIL, SECOND_FACTOR, SIGN_UP, VALUES, Policies
from portal import wiring
from portal.confirm import attempt
from portal.proof import first
from portal.session import SignedIn, actor
from portal.texts import N_, t, translated

RULES: Final = {
    SECOND_FACTOR: (
        N_("Who needs a second factor"),
        {
            "nobody": (N_("Nobody"), N_("Everybody may have one.")),
            "administrators": (N_("Administrators"), N_("And whoever else wants one.")),
            "everybody": (
                N_("Everybody"),
                N_("Who has none sets one up at the next click, and can do nothing else before."),
            ),
        },
    ),
    SIGN_UP: (
        N_("Who may sign up"),
        {
            "closed": (N_("Nobody"), N_("Accounts are made by invitation.")),
            "approval": (
                N_("Everybody, once you approve"),
                N_("Requests wait on this page. Until then they can do nothing."),
            ),
            "open": (
                N_("Everybody"),
                N_("Whoever reaches this page becomes a member, at once."),
            ),
        },
    ),
    LINK_BY_EMAIL: (
        N_("Accounts of an identity provider"),
        {
            "no": (
                N_("Are linked by their users alone"),
                N_("On their profile, once they are logged in."),
            ),
            "yes": (
                N_("Find the account of the same verified e-mail"),
                N_("Only if you trust the provider to know whose e-mail it is."),
            ),
        },
    ),
}


def show_rules(user: SignedIn) -> None:
    current = _values(wiring.services().papita.policies.current())
    chosen = {name: _show(name, current[name]) for name in VALUES}
    changed = {name: value for name, value in chosen.items() if value != current[name]}
    if _locks_oneself_up(user, changed.get(SECOND_FACTOR)):
        st.warning(
            t("You have no second factor yet: you will be asked to set one up at once."),
            icon=":material/warning:",
        )
    if st.button(t("Save"), type="primary", key="users_rules_save", disabled=not changed):
        first(lambda: _save(changed))


def _values(found: Policies) -> dict[str, str]:
    return {
        SECOND_FACTOR: found.second_factor,
        SIGN_UP: found.sign_up,
        LINK_BY_EMAIL: "yes" if found.link_by_email else "no",
    }


def _show(name: str, current: str) -> str:
    title, values = RULES[name]
    with st.container(border=True):
        return st.radio(
            f"**{translated(title)}**",
            VALUES[name],
            index=VALUES[name].index(current),
            format_func=lambda value: translated(values[value][0]),
            captions=[translated(values[value][1]) for value in VALUES[name]],
            key=f"users_rule_{name}",
        )


def _locks_oneself_up(user: SignedIn, wanted: str | None) -> bool:
    return wanted in ("administrators", "everybody") and not wiring.services().papita.factors.of(
        user.session.user_id
    )


def _save(changed: dict[str, str]) -> None:
    def put() -> None:
        for name, value in changed.items():
            wiring.services().papita.policies.put(actor(), name, value)

    attempt(put, t("That is in force now."))
    st.rerun()
