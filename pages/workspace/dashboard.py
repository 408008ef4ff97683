"""The dashboard: every project as a card, with its live state and the way in."""

import streamlit as st

from portal import navigation, wiring
from portal.project_cards import show_project
from portal.session import require_user

user = require_user("projects:launch")
papita = wiring.services().papita

st.title(f"Hello, {user.name}", anchor=False)
if user.actor.may("credentials:read") and not papita.credentials.list(user.actor, limit=1).items:
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.markdown("**First step:** store your OpenAI key, so that AL-Chat can answer.")
        st.page_link(navigation.page("credentials"), label="Add a key", icon=":material/key:")

with st.grid(min_column_width=300, gap="medium") as grid:
    for project in papita.projects.catalogue():
        show_project(user, project)
