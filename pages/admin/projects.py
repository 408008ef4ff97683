"""The projects: which are on, who may use them, and the switch that stops one for everybody."""

import streamlit as st

from portal import wiring
from portal.kill_switches import PROJECTS, show_project_switch
from portal.session import require_user
from portal.texts import t

user = require_user(PROJECTS)

st.title(t("Projects"), anchor=False)
st.caption(
    t(
        "Switching a project off ends what it has borrowed at this moment: nobody's key is lent to"
        " it and answers that are being written stop within seconds. Consents and conversations"
        " stay."
    )
)
for state in wiring.services().papita.projects.states(user.actor):
    show_project_switch(state)
