"""The users: who there is, who wants to come in, and what holds for everybody."""

import streamlit as st

from portal import proof, wiring
from portal.session import require_user
from portal.texts import t, tn
from portal.users.actions import CAPABILITY
from portal.users.invitations import show_invitations, show_invite_button
from portal.users.lockouts import show_lockouts
from portal.users.people import show_people
from portal.users.requests import show_requests
from portal.users.rules import show_rules

user = require_user(CAPABILITY)
counts = wiring.services().papita.users.counts(user.actor)
asked = counts.waiting + counts.reset_asked

with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title(t("Users"), anchor=False, width="content")
    show_invite_button()
parts = {
    "people": t("People"),
    "requests": t("Requests"),
    "invitations": t("Invitations"),
    "lockouts": t("Lock-outs"),
    "rules": t("Rules"),
}
part = st.pills(
    t("What to see"),
    list(parts),
    default="people",
    required=True,
    format_func=parts.__getitem__,
    key="users_part",
    label_visibility="collapsed",
)
if part == "requests":
    show_requests(user, counts)
elif part == "invitations":
    show_invitations(user)
elif part == "lockouts":
    show_lockouts(user)
elif part == "rules":
    show_rules(user)
else:
    if asked:
        waits = tn(
            "{count} request waits for an answer.", "{count} requests wait for answers.", asked
        )
        st.info(waits, icon=":material/notifications:")
    show_people(user, counts)
    st.caption(
        tn("{count} administrator", "{count} administrators", counts.administrators)
        + " · "
        + t("{count} disabled", count=counts.disabled)
    )
proof.resume()
