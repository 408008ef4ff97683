"""Who the user is here, and where they are signed in."""

import streamlit as st

from portal import proof
from portal.profile.factors import show_factors
from portal.profile.sessions import show_sessions
from portal.session import require_user
from portal.texts import t, translated
from portal.words import plain

user = require_user("profile")

st.title(t("Profile"), anchor=False)
with st.container(border=True):
    st.subheader(plain(user.name), anchor=False)
    st.markdown(
        t(
            "User name **{name}**, role **{role}**",
            name=plain(user.session.username),
            role=translated(user.session.role),
        )
    )
show_factors(user)
show_sessions(user)
proof.resume()
