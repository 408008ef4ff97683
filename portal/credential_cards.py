"""Credentials as cards: what one is, how it is doing, who used it, and what can be done with it."""

from __future__ import annotations

import streamlit as st

from papita_core.credential_types import CREDENTIAL_TYPES
from papita_core.errors import PapitaError
from papita_core.usage.budgets import DAY, Spending, in_words
from papita_core.vault.service import CredentialInfo, SharedCredential, Usage, Use
from portal import wiring
from portal.connected_apps import OUTCOMES
from portal.credential_form import delete_credential, expiry_words, replace_credential
from portal.credential_tests import last_test, show_badge, show_status, start_test
from portal.session import SignedIn, actor, require_user, tab
from portal.sharing import share_credential
from portal.words import ago, plain, plural

PAGE = "credentials"
USES, SHARE, ON, OFF = "Uses", "Share", "Switch on", "Switch off"
ICONS = {
    USES: ":material/history:",
    SHARE: ":material/group:",
    ON: ":material/toggle_on:",
    OFF: ":material/toggle_off:",
}
USES_AT_ONCE = 20
RUN_ID_SHOWN = 6  # of its end: run ids begin with the time
CURSORS = "uses_cursors"
SEALED = "The vault is sealed: an administrator has to open it first."


def show_card(user: SignedIn, info: CredentialInfo, usage: Usage | None) -> bool:
    """One own credential; True if it has opened a dialog."""
    with st.container(border=True, key=f"{PAGE}_{info.id}"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.subheader(plain(info.label), anchor=False, width="content")
            show_status(info)
            if info.shared != "nobody":
                whom = "everybody" if info.shared == "everybody" else "some users"
                st.badge(f"Shared with {whom}", color="blue", icon=":material/group:")
        with st.container(gap="xsmall"):
            st.markdown(_what_it_is(info))
            st.caption(_how_it_is_used(info, usage))
            if info.budget is not None:
                st.caption(budget_words(info.budget))
        if info.blocked:
            st.warning(
                "An administrator has blocked this credential: no project gets it. Ask why, or"
                " delete it.",
                icon=":material/lock:",
            )
        return user.actor.may("credentials:write") and _actions(user, info)


def _what_it_is(info: CredentialInfo) -> str:
    kind = CREDENTIAL_TYPES[info.credential_type]
    hint = f" `{info.hint}`" if info.hint else ""
    where = f" at `{info.base_url}`" if info.base_url else ""
    return f"{kind.title}{hint}{where} {for_whom(info.project_id)}"


def for_whom(project_id: str | None) -> str:
    """`for all projects`, `for AL-Chat`."""
    if project_id is None:
        return "for all projects"
    return f"for **{project_title(project_id)}**"


def project_title(project_id: str) -> str:
    titles = {it.id: it.title for it in wiring.services().papita.projects.catalogue()}
    return titles.get(project_id, project_id)


def _how_it_is_used(info: CredentialInfo, usage: Usage | None) -> str:
    if info.last_used_at is None:
        used = "Never used."
    else:
        by = f" by {project_title(info.last_used_by)}" if info.last_used_by else ""
        today = f", {plural(usage.today, 'time')} today" if usage and usage.today else ""
        used = f"Used {ago(info.last_used_at)}{by}{today}."
    expiry = ""
    if info.expires_at is not None:
        words = expiry_words(info.expires_at)
        expiry = f" {words[0].upper()}{words[1:]}."
    return f"{used} {last_test(info)}{expiry}".replace("  ", " ")


def budget_words(standing: Spending) -> str:
    """How much of a budget is spent, and from four fifths on what that means."""
    budget = standing.budget
    which = "today" if budget.period == DAY else "this month"
    whose = "" if budget.project_id is None else f" by {project_title(budget.project_id)}"
    spent, limit = in_words(standing.spent_nano), in_words(budget.limit_nano)
    words = plain(f"{spent} of {limit} spent {which}{whose}.")
    if standing.unpriced:
        unpriced = plural(standing.unpriced, "request")
        words += f" What {unpriced} cost is not known."
    if standing.exceeded:
        until = standing.until
        words += (
            f" The budget is used up: nothing is lent until {until.day} {until:%B}, or until you"
            " raise it with Replace."
        )
        return f":red[:material/block: {words}]"
    return f":orange[:material/warning: {words}]" if standing.warning else words


def _actions(user: SignedIn, info: CredentialInfo) -> bool:
    sealed = wiring.services().papita.ring.sealed
    why = SEALED if sealed else None
    opened = False
    with st.container(horizontal=True, gap="small"):
        st.button(
            "Test",
            key=f"{PAGE}_test_{info.id}",
            disabled=sealed or CREDENTIAL_TYPES[info.credential_type].probe is None,
            help=why
            or (
                "There is no provider to ask about this type."
                if CREDENTIAL_TYPES[info.credential_type].probe is None
                else None
            ),
            on_click=_test,
            args=(info,),
        )
        if st.button(
            "Replace",
            key=f"{PAGE}_edit_{info.id}",
            disabled=sealed,
            help=why,
        ):
            replace_credential(info)
            opened = True
        if st.button(
            "Delete",
            key=f"{PAGE}_drop_{info.id}",
            disabled=sealed,
            help=why,
        ):
            delete_credential(info)
            opened = True
        options = [USES]
        if not sealed:
            options.append(ON if info.disabled else OFF)
            if user.actor.may("credentials:share"):
                options.append(SHARE)
        choice = st.menu_button(
            "More",
            options,
            format_func=lambda option: f"{ICONS[option]} {option}",
            key=f"{PAGE}_more_{info.id}",
        )
    if choice == USES:
        show_uses(info)
    elif choice == SHARE:
        share_credential(info)
    elif choice in (ON, OFF):
        _switch(info, off=choice == OFF)
    return opened or choice in (USES, SHARE)


def _test(info: CredentialInfo) -> None:
    try:
        start_test(actor(), info.id)
    except PapitaError as error:
        tab().notice = str(error)


def _switch(info: CredentialInfo, *, off: bool) -> None:
    state = tab()
    try:
        wiring.services().papita.credentials.set_disabled(actor(), info.id, off, etag=info.etag)
        state.models_until = 0.0
        state.notice = (
            f"{info.label} is switched off: no project gets it until you switch it on."
            if off
            else f"{info.label} is switched on."
        )
    except PapitaError as error:
        state.notice = str(error)
    st.rerun()


def show_shared(shared: SharedCredential) -> None:
    """A credential of somebody else: what it is and whose, and nothing to change."""
    with st.container(border=True, key=f"shared_{shared.id}"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.subheader(plain(shared.label), anchor=False, width="content")
            show_badge(shared.status)
        where = f" at `{shared.origin}`" if shared.origin else ""
        kind = CREDENTIAL_TYPES[shared.credential_type].title
        expiry = f" {expiry_words(shared.expires_at)}." if shared.expires_at else ""
        with st.container(gap="xsmall"):
            st.markdown(f"{kind}{where} {for_whom(shared.project_id)}")
            st.caption(f"Shared by {plain(shared.owner_name)}.{expiry}")


# --- the record of use ---


def _forget_uses() -> None:
    st.session_state.pop(CURSORS, None)


@st.dialog("Uses", width="medium", icon=":material/history:", on_dismiss=_forget_uses)
def show_uses(info: CredentialInfo) -> None:
    """Every time a project read this credential, newest first."""
    user = require_user("credentials:read")
    vault = wiring.services().papita.credentials
    st.markdown(
        f"Every time a project borrowed **{plain(info.label)}**: for each answer anew. Times are"
        " UTC."
    )
    cursors: list[str | None] = st.session_state.setdefault(CURSORS, [None])
    try:
        page = vault.uses(user.actor, info.id, cursor=cursors[-1], limit=USES_AT_ONCE)
    except PapitaError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    if not page.items:
        st.caption("No project has used it yet.")
        return
    st.markdown("\n".join(use_line(use, user.session.username) for use in page.items))
    if len(cursors) == 1 and page.next_cursor is None:
        return
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        st.button(
            "Newer",
            icon=":material/arrow_back:",
            key="uses_newer",
            disabled=len(cursors) == 1,
            on_click=_newer,
            args=(cursors,),
        )
        st.button(
            "Older",
            icon=":material/arrow_forward:",
            icon_position="right",
            key="uses_older",
            disabled=page.next_cursor is None,
            on_click=_older,
            args=(cursors, page.next_cursor),
        )


def _newer(cursors: list[str | None]) -> None:
    if len(cursors) > 1:
        cursors.pop()


def _older(cursors: list[str | None], following: str) -> None:
    cursors.append(following)


def use_line(use: Use, own_name: str) -> str:
    """When, by which project and for whom, what came of it, and for which run."""
    when = f"{use.at.day} {use.at:%B}, {use.at:%H:%M:%S}"
    run = f" · run `{use.run_id[-RUN_ID_SHOWN:]}`" if use.run_id else ""
    outcome = OUTCOMES.get(use.outcome, use.outcome)
    return f"- {when} · **{plain(_borrower(use, own_name))}** · {plain(outcome)}{run}"


def _borrower(use: Use, own_name: str) -> str:
    project = project_title(use.project_id) if use.project_id else "A project"
    if use.username is None:
        return project
    return f"{project} for {'you' if use.username == own_name else use.username}"
