"""Personal access tokens: make one for a script, see what there is, take it back."""

import streamlit as st

from portal import proof, wiring
from portal.access_tokens import CAPABILITY, create_token, show_example, show_token
from portal.session import require_user
from portal.texts import t

user = require_user(CAPABILITY)

with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title(t("Access tokens"), anchor=False, width="content")
    if st.button(t("Create token"), icon=":material/add:", type="primary"):
        proof.first(create_token)
st.caption(
    t(
        "A token lets a script use the API in your name, within the scopes that you give it. It"
        " never reads a key. Papita keeps a fingerprint of it, so it is shown once."
    )
)

tokens = wiring.services().papita.access_tokens.list(user.actor)
for token in tokens:
    show_token(token)
if not tokens:
    with st.container(border=True):
        st.markdown(t("**No token yet.** Create one to use the API from a script."))

st.subheader(t("How to use one"), anchor=False)
st.markdown(t("Send it as a bearer token. The whole API is described at [/api/docs](/api/docs)."))
show_example()
proof.resume()
