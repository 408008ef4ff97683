"""The audit log: who used or changed what, newest first, and whether the log is whole."""

import streamlit as st

from papita_core.audit.service import AuditFilter
from portal import audit_view, wiring
from portal.session import require_user
from portal.words import plain, table

PAGE_SIZE = 50
ANY = "Any"

user = require_user("audit:read")
papita = wiring.services().papita
audit = papita.audit
titles = {project.id: project.title for project in papita.projects.catalogue()}

with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title("Audit log", anchor=False, width="content")
    check = st.button("Verify", icon=":material/verified:", help="Recomputes the keyed chain.")
st.caption(
    "Every read of a key and every change has a row, written in the same transaction. The rows"
    " are chained with a key, so that a row that was edited, removed or moved is found."
)
if check:
    with st.spinner("Reading the whole log …"):
        damages = audit.verify()
    if damages:
        found = "\n".join(f"- {plain(audit_view.damage_sentence(damage))}" for damage in damages)
        st.error(
            f"**The log is damaged.**\n{found}\n\n{audit_view.WHAT_TO_DO}", icon=":material/error:"
        )
    else:
        st.success("The log is whole.", icon=":material/check_circle:")

names = {"operator": "operator"}  # who types commands on the host
if user.actor.may("users:manage"):
    names |= {one.username: one.id for one in papita.users.list(user.actor)}
with st.grid(min_column_width=150) as filters:
    what = filters.selectbox(
        "What",
        [ANY, *audit.actions()],
        format_func=audit_view.action_words,
        key="audit_what",
        bind="query-params",
    )
    who = filters.selectbox("Who", [ANY, *names], key="audit_who", bind="query-params")
    project = filters.selectbox(
        "Project",
        [ANY, *titles],
        format_func=lambda name: titles.get(name, name),
        key="audit_project",
        bind="query-params",
    )
    outcome = filters.selectbox(
        "Outcome", list(audit_view.OUTCOMES), key="audit_outcome", bind="query-params"
    )
    first = filters.date_input(
        "From (UTC)", None, format="YYYY-MM-DD", key="audit_from", bind="query-params"
    )
    last = filters.date_input(
        "To (UTC)", None, format="YYYY-MM-DD", key="audit_to", bind="query-params"
    )
since, until = audit_view.days(first, last)
wanted = AuditFilter(
    action=None if what == ANY else what,
    user_id=names.get(who),
    project_id=None if project == ANY else project,
    outcome=audit_view.OUTCOMES[outcome],
    since=since,
    until=until,
)

# The cursors of the pages that were turned, so that the way back is known.
if st.session_state.get("audit_filter") != wanted:
    st.session_state["audit_filter"], st.session_state["audit_cursors"] = wanted, []
cursors: list[str] = st.session_state["audit_cursors"]
page = audit.entries(user.actor, wanted, cursor=cursors[-1] if cursors else None, limit=PAGE_SIZE)
for day, rows in audit_view.by_day(page.items):
    st.markdown(f"**{day}**\n\n{table(audit_view.HEADS, rows)}")
if not page.items:
    st.info("No row fits. Widen the filter to see more.", icon=":material/filter_alt_off:")


def newer() -> None:
    cursors.pop()


with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    with st.container(horizontal=True, width="content"):
        st.button(
            "Newer",
            icon=":material/chevron_left:",
            disabled=not cursors,
            on_click=newer,
        )
        st.button(
            "Older",
            icon=":material/chevron_right:",
            disabled=page.next_cursor is None,
            on_click=cursors.append,
            args=(page.next_cursor,),
        )
    with st.container(horizontal=True, width="content"):
        asked = {
            "action": wanted.action,
            "user": wanted.user_id,
            "project": wanted.project_id,
            "outcome": wanted.outcome,
            "since": None if first is None else first.isoformat(),
            "until": None if last is None else last.isoformat(),
        }
        for label, file_type in (("CSV", "csv"), ("JSON lines", "jsonl")):
            st.link_button(
                label,
                audit_view.export_url(file_type, asked),
                icon=":material/download:",
                help="All rows that fit the filter, oldest first.",
            )
