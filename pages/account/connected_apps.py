"""Which projects may use the user's keys, what they did with them; and taking it back."""

import streamlit as st

from portal import navigation, wiring
from portal.connected_apps import show_app
from portal.session import require_user
from portal.texts import t

user = require_user("profile")
papita = wiring.services().papita

st.title(t("Connected apps"), anchor=False)
st.caption(
    t(
        "A project gets a key only while it works for you, for minutes, and never keeps it."
        " Revoking works at this moment: nothing more is lent, what was borrowed ends, and an"
        " answer that is being written stops within seconds. What was written stays."
    )
)
grants = papita.grants.list(user.actor)
for project in papita.projects.catalogue():
    if project.installed:
        show_app(user, project, [grant for grant in grants if grant.project_id == project.id])

if user.actor.may("tokens:manage") and papita.access_tokens.list(user.actor):
    st.caption(
        t(
            "Access tokens with the scope `projects:launch` carry your consent by themselves."
            " Revoke them on their own page."
        )
    )
    st.page_link(navigation.page("access-tokens"))
