"""The dashboard: every project as a card, with its live state and the way in."""

import streamlit as st

from portal import wiring
from portal.project_cards import show_project
from portal.reminders import show_expiring, show_first_step
from portal.session import require_user
from portal.vault_banner import show_if_sealed

user = require_user("projects:launch")

st.title(f"Hello, {user.name}", anchor=False)
if not show_if_sealed(user) and user.actor.may("credentials:read"):
    show_first_step(user)
    show_expiring(user)

with st.grid(min_column_width=300, gap="medium") as grid:
    for project in wiring.services().papita.projects.catalogue():
        show_project(user, project)
