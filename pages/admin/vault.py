"""The vault: the key ring and its rotation, the last backup, and every credential by its label."""

import streamlit as st

from portal import vault_view, wiring
from portal.session import require_user
from portal.texts import t

user = require_user(vault_view.CAPABILITY)
papita = wiring.services().papita
ring, progress = papita.ring.status, papita.rotation.progress()

with st.container(horizontal=True, vertical_alignment="center"):
    st.title(t("Vault"), anchor=False, width="content")
    if ring.sealed:
        st.badge(t("Sealed"), color="red", icon=":material/lock:")
    else:
        st.badge(t("Open"), color="green", icon=":material/lock_open:")
st.caption(
    t(
        "Every stored key is sealed under a data key of its own, those under the root key, and that"
        " under the master key, which is not in the database. Nobody sees a key here, you included."
    )
)
if ring.sealed:
    vault_view.show_sealed(ring)
vault_view.show_problems(user, progress)
with st.grid(min_column_width=300, gap="medium"):
    vault_view.show_root_key(ring, progress)
    vault_view.show_master_key(ring)
    vault_view.show_signing_key(ring)
    vault_view.show_backup(user)
vault_view.show_keys(ring)

st.subheader(t("All credentials"), anchor=False)
vault_view.show_credentials(user)
