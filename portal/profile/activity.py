"""What happened to the account: sign-ins, failures and changes, in words and in pages."""

from __future__ import annotations

from dataclasses import dataclass, field

import streamlit as st

from papita_core.audit.service import Entry
from portal import wiring
from portal.audit_view import action_words
from portal.profile.sessions import METHODS
from portal.session import SignedIn, remembered
from portal.texts import N_, t, translated
from portal.words import ago, device, moment, plain

PAGE_SIZE = 15
ICONS = (
    ("session.started", "login"),
    ("session.ended", "logout"),
    ("sign-in", "login"),
    ("account.", "manage_accounts"),
    ("user.", "manage_accounts"),
    ("factor.", "verified_user"),
    ("passkey.", "passkey"),
    ("recovery.", "password_2"),
    ("credential.", "key"),
    ("grant.", "hub"),
    ("token.", "key_vertical"),
    ("limit.", "timer"),
)


# What the log says of somebody else in other words.
OWN = {
    "user.created": N_("your account was made"),
    "user.disabled": N_("your account was disabled"),
    "user.enabled": N_("your account was enabled"),
    "user.password-reset": N_("your password was reset"),
}


@dataclass(slots=True)
class Pages:
    """The cursors of the pages that were turned, so that the way back is known."""

    cursors: list[str] = field(default_factory=list)


def show_activity(user: SignedIn) -> None:
    pages = remembered(Pages)
    st.subheader(t("What happened to your account"), anchor=False)
    st.caption(
        t(
            "Sign-ins, failed ones too, and changes. If something here was not you, change your"
            " password and sign out everywhere else."
        )
    )
    cursor = pages.cursors[-1] if pages.cursors else None
    page = wiring.services().papita.account.events(user.actor, cursor=cursor, limit=PAGE_SIZE)
    with st.container(border=True, gap="small"):
        for entry in page.items:
            _line(user, entry)
        if not page.items:
            st.markdown(t("Nothing yet."))
    if not pages.cursors and page.next_cursor is None:
        return
    with st.container(horizontal=True):
        st.button(
            t("Newer"),
            icon=":material/chevron_left:",
            disabled=not pages.cursors,
            key="activity_newer",
            on_click=_newer,
        )
        st.button(
            t("Older"),
            icon=":material/chevron_right:",
            disabled=page.next_cursor is None,
            key="activity_older",
            on_click=_older,
            args=(page.next_cursor,),
        )


def _newer() -> None:
    cursors = remembered(Pages).cursors
    if cursors:
        cursors.pop()


def _older(following: str) -> None:
    remembered(Pages).cursors.append(following)


def _line(user: SignedIn, entry: Entry) -> None:
    event = entry.event
    words = translated(OWN[event.action]) if event.action in OWN else action_words(event.action)
    words = words[:1].upper() + words[1:]
    colour = "red" if event.outcome != "ok" else ""
    icon = next((name for start, name in ICONS if event.action.startswith(start)), "info")
    facts = [moment(entry.at), ago(entry.at), *_details(entry)]
    if event.actor_id not in (user.session.user_id, None) and entry.actor_name:
        facts.append(t("by {name}", name=plain(entry.actor_name)))
    title = f":material/{icon}: **{plain(words)}**"
    if colour:
        title += f" :{colour}[{plain(t('refused: {reason}', reason=event.outcome))}]"
    st.markdown(f"{title}  \n:small[:gray[{' · '.join(facts)}]]")


def _details(entry: Entry) -> list[str]:
    """How, with which device and from where, as far as the row tells."""
    details, found = entry.event.details, []
    if details.get("method") in METHODS:
        found.append(translated(METHODS[details["method"]]))
    agent = details.get("userAgent") or details.get("user_agent")
    if agent:
        found.append(plain(device(str(agent))))
    if details.get("address"):
        found.append(plain(str(details["address"])))
    return found
