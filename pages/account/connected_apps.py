"""Which projects may use the user's keys, since when; and taking it back."""

import streamlit as st

from papita_core.credential_types import CREDENTIAL_TYPES
from portal import wiring
from portal.session import require_user, tab
from portal.words import ago

user = require_user("profile")
papita = wiring.services().papita
projects = {project.id: project for project in papita.projects.catalogue()}


def revoke(project_id: str) -> None:
    papita.grants.revoke(user.actor, project_id)
    tab().notice = f"{projects[project_id].title} may not use your keys any more."


st.title("Connected apps", anchor=False)
st.caption(
    "A project gets a key only while it works for you, for minutes, and never keeps it. Taking"
    " the permission back also ends what it has borrowed at this moment."
)
grants = papita.grants.list(user.actor)
for grant in grants:
    project = projects[grant.project_id]
    kind = CREDENTIAL_TYPES[grant.credential_type].title
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        with st.container(gap=None):
            st.markdown(f"{project.icon} **{project.title}**")
            st.caption(f"May use your {kind} key since {ago(grant.created_at)}")
        st.button(
            "Revoke",
            icon=":material/link_off:",
            key=f"connected_apps_{grant.id}",
            on_click=revoke,
            args=(grant.project_id,),
        )
if not grants:
    with st.container(border=True):
        st.markdown("**No project may use your keys.** Each one asks when you open it first.")
