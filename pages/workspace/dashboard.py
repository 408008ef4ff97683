"""The dashboard: what wants attention, every project as a card, what went on lately."""

import streamlit as st

from portal import wiring
from portal.dashboard.attention import show_attention
from portal.dashboard.first_steps import show_first_steps
from portal.dashboard.recent import show_recent
from portal.dashboard.spending import show_spending
from portal.project_cards import show_project
from portal.session import require_user
from portal.texts import t
from portal.vault_banner import show_if_sealed
from portal.words import plain

user = require_user("projects:launch")

st.title(t("Hello, {name}", name=plain(user.name)), anchor=False)
newcomer = False
if not show_if_sealed(user) and user.actor.may("credentials:read"):
    newcomer = show_first_steps(user)
    show_attention(user)

with st.grid(min_column_width=300, gap="medium") as grid:
    for project in wiring.services().papita.projects.catalogue():
        show_project(user, project)

if not newcomer:
    with st.grid(min_column_width=300, gap="medium"):
        with st.container(key="dashboard_left"):
            show_recent()
        if user.actor.may("credentials:read"):
            with st.container(key="dashboard_right"):
                show_spending()
