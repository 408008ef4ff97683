"""Who the user is here: details, security, sessions, what happened, and the data."""

import streamlit as st

from portal import proof, wiring
from portal.profile.activity import show_activity
from portal.profile.data import show_data
from portal.profile.details import show_details
from portal.profile.factors import show_factors
from portal.profile.head import choose_section, show_head
from portal.profile.password import show_password
from portal.profile.providers import show_providers
from portal.profile.sessions import show_sessions
from portal.session import require_user
from portal.texts import t

user = require_user("profile")
account = wiring.services().papita.account.get(user.actor)

st.title(t("Profile"), anchor=False)
show_head(user, account)
section = choose_section()
if section == "details":
    show_details(user, account)
elif section == "security":
    show_password(account)
    show_factors(user)
    show_providers(user)
elif section == "sessions":
    show_sessions(user)
elif section == "activity":
    show_activity(user)
else:
    show_data(account)
proof.resume()
