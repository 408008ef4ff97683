"""The audit log: who used or changed what, newest first, and whether the log is whole."""

import streamlit as st

from papita_core.audit.service import AuditFilter
from papita_core.errors import InvalidInput
from portal import audit_view, wiring
from portal.session import require_user
from portal.texts import said, t, translated
from portal.words import plain, show_field_error, table

PAGE_SIZE = 50

user = require_user("audit:read")
papita = wiring.services().papita
audit = papita.audit
titles = {project.id: project.title for project in papita.projects.catalogue()}

with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title(t("Audit log"), anchor=False, width="content")
    check = st.button(
        t("Verify"), icon=":material/verified:", help=t("Recomputes the keyed chain.")
    )
st.caption(
    t(
        "Every read of a key and every change has a row, written in the same transaction. The rows"
        " are chained with a key, so that a row that was edited, removed or moved is found."
    )
)
if check:
    with st.spinner(t("Reading the whole log …")):
        damages = audit.verify()
    if damages:
        found = "\n".join(f"- {plain(audit_view.damage_sentence(damage))}" for damage in damages)
        title, advice = t("**The log is damaged.**"), translated(audit_view.WHAT_TO_DO)
        st.error(f"{title}\n{found}\n\n{advice}", icon=":material/error:")
    else:
        st.success(t("The log is whole."), icon=":material/check_circle:")

# Who types commands on the host, and the first of the users: others are typed.
names = ["operator"]
if user.actor.may("users:manage"):
    names += papita.users.names(user.actor, limit=50)
with st.grid(min_column_width=150) as filters:
    what = filters.selectbox(
        t("What"),
        [audit_view.ANY, *audit.actions()],
        format_func=audit_view.action_words,
        key="audit_what",
        bind="query-params",
    )
    who = filters.selectbox(
        t("Who"),
        [audit_view.ANY, *names],
        format_func=lambda name: translated(name) if name == audit_view.ANY else name,
        accept_new_options=True,
        key="audit_who",
        bind="query-params",
    )
    project = filters.selectbox(
        t("Project"),
        [audit_view.ANY, *titles],
        format_func=lambda name: titles.get(name) or translated(name),
        key="audit_project",
        bind="query-params",
    )
    outcome = filters.selectbox(
        t("Outcome"),
        list(audit_view.OUTCOMES),
        format_func=translated,
        key="audit_outcome",
        bind="query-params",
    )
    first = filters.date_input(
        t("From (UTC)"), None, format="YYYY-MM-DD", key="audit_from", bind="query-params"
    )
    last = filters.date_input(
        t("To (UTC)"), None, format="YYYY-MM-DD", key="audit_to", bind="query-params"
    )
try:
    whose = None if who in (audit_view.ANY, None) else audit.user_id(user.actor, who)
except InvalidInput as error:
    whose = ""  # nobody's
    show_field_error(said(error))
since, until = audit_view.days(first, last)
wanted = AuditFilter(
    action=None if what == audit_view.ANY else what,
    user_id=whose,
    project_id=None if project == audit_view.ANY else project,
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
    st.markdown(f"**{day}**\n\n{table(audit_view.heads(), rows)}")
if not page.items:
    st.info(t("No row fits. Widen the filter to see more."), icon=":material/filter_alt_off:")


def newer() -> None:
    cursors.pop()


with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    with st.container(horizontal=True, width="content"):
        st.button(
            t("Newer"),
            icon=":material/chevron_left:",
            disabled=not cursors,
            on_click=newer,
        )
        st.button(
            t("Older"),
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
        for label, file_type in (("CSV", "csv"), (t("JSON lines"), "jsonl")):
            st.link_button(
                label,
                audit_view.export_url(file_type, asked),
                icon=":material/download:",
                help=t("All rows that fit the filter, oldest first."),
            )
