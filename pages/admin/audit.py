"""The audit log: who used or changed what, newest first, and whether the log is whole."""

import streamlit as st

from portal import wiring
from portal.audit_view import entry_rows
from portal.session import require_user
from portal.words import table

PAGE_SIZE = 50

user = require_user("audit:read")
audit = wiring.services().papita.audit

with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title("Audit log", anchor=False, width="content")
    check = st.button("Verify", icon=":material/verified:", help="Recomputes the keyed chain.")
st.caption(
    "Every read of a key and every change has a row, written in the same transaction. The rows"
    " are chained with a key, so that a row that was edited, removed or moved is found."
)
if check:
    with st.spinner("Reading the whole log …"):
        damage = audit.verify()
    if damage:
        first = damage[0]
        st.error(f"The log is damaged at row {first.seq}: {first.kind}.", icon=":material/error:")
    else:
        st.success("The log is whole.", icon=":material/check_circle:")

shown = st.session_state.setdefault("audit_rows", PAGE_SIZE)
entries = audit.entries(user.actor, limit=min(shown, 500))
st.markdown(
    table(
        ("No", "When (UTC)", "What", "By", "For", "Project", "Outcome"),
        entry_rows(entries, wiring.services().papita.users),
    )
)
if len(entries) == shown and shown < 500 and st.button("Show more"):
    st.session_state["audit_rows"] = shown + 2 * PAGE_SIZE
    st.rerun()
