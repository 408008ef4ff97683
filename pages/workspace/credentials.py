"""The credentials editor: what there is, with a hint; add, test, replace, delete."""

import streamlit as st

from papita_core.credential_types import CREDENTIAL_TYPES
from papita_core.vault.service import CredentialInfo
from portal import wiring
from portal.credential_form import add_credential, delete_credential, replace_credential
from portal.credential_tests import last_test, show_status, test_credential
from portal.session import require_user
from portal.words import ago, plain

user = require_user("credentials:read")
vault = wiring.services().papita.credentials
may_write = user.actor.may("credentials:write")


def card(info: CredentialInfo) -> None:
    with st.container(border=True, key=f"credentials_{info.id}"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.subheader(plain(info.label), anchor=False, width="content")
            show_status(info)
        used = f"used {ago(info.last_used_at)}" if info.last_used_at else "never used"
        kind = CREDENTIAL_TYPES[info.credential_type].title
        st.markdown(f"{kind} key `{info.hint}` at `{info.base_url}`")
        st.caption(f"Added {ago(info.created_at)}, {used}. {last_test(info)}")
        if not may_write:
            return
        with st.container(horizontal=True):
            if st.button(
                "Test", icon=":material/network_check:", key=f"credentials_test_{info.id}"
            ):
                test_credential(user, info)
            if st.button("Replace", icon=":material/edit:", key=f"credentials_edit_{info.id}"):
                replace_credential(info)
            if st.button("Delete", icon=":material/delete:", key=f"credentials_drop_{info.id}"):
                delete_credential(info)


with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title("Credentials", anchor=False, width="content")
    if may_write and st.button("Add credential", icon=":material/add:", type="primary"):
        add_credential()
st.caption(
    "Keys are stored encrypted and never shown again. A project gets one only after you allowed"
    " it, for minutes, and every use is recorded."
)

page = vault.list(user.actor, limit=200)
for credential in page.items:
    card(credential)
if not page.items:
    with st.container(border=True, horizontal_alignment="center"):
        st.markdown("**No key yet.** Add your OpenAI key to chat with AL-Chat.")
