"""Credentials as cards: what one is, how it is doing, who used it, and what can be done with it."""

from __future__ import annotations

import streamlit as st

from papita_core.credential_types import CREDENTIAL_TYPES
from papita_core.errors import PapitaError
from papita_core.usage.budgets import DAY, Spending
from papita_core.vault.service import CredentialInfo, SharedCredential, Usage, Use
from portal import wiring
from portal.connected_apps import OUTCOMES
from portal.credential_form import delete_credential, expiry_sentence, replace_credential
from portal.credential_tests import last_test, show_badge, show_status, start_test
from portal.dialogs import dialog
from portal.session import SignedIn, actor, require_user, tab
from portal.sharing import share_credential
from portal.texts import N_, said, t, tn, translated
from portal.words import ago, day_and_month, local, money, plain

PAGE = "credentials"
USES, SHARE, ON, OFF = N_("Uses"), N_("Share"), N_("Switch on"), N_("Switch off")
ICONS = {
    USES: ":material/history:",
    SHARE: ":material/group:",
    ON: ":material/toggle_on:",
    OFF: ":material/toggle_off:",
}
USES_AT_ONCE = 20
RUN_ID_SHOWN = 6  # of its end: run ids begin with the time
CURSORS = "uses_cursors"
SEALED = N_("The vault is sealed: an administrator has to open it first.")


def show_card(user: SignedIn, info: CredentialInfo, usage: Usage | None) -> bool:
    """One own credential; True if it has opened a dialog."""
    with st.container(border=True, key=f"{PAGE}_{info.id}"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.subheader(plain(info.label), anchor=False, width="content")
            show_status(info)
            if info.shared != "nobody":
                everybody = info.shared == "everybody"
                title = t("Shared with everybody") if everybody else t("Shared with some users")
                st.badge(title, color="blue", icon=":material/group:")
        with st.container(gap="xsmall"):
            st.markdown(_what_it_is(info))
            st.caption(_how_it_is_used(info, usage))
            if info.budget is not None:
                st.caption(budget_words(info.budget))
        if info.blocked:
            st.warning(
                t(
                    "An administrator has blocked this credential: no project gets it. Ask why, or"
                    " delete it."
                ),
                icon=":material/lock:",
            )
        return user.actor.may("credentials:write") and _actions(user, info)


def _what_it_is(info: CredentialInfo) -> str:
    kind = translated(CREDENTIAL_TYPES[info.credential_type].title)
    what = f"{kind} `{info.hint}`" if info.hint else kind
    return kind_words(what, info.base_url, info.project_id)


def kind_words(what: str, address: str | None, project_id: str | None) -> str:
    """`OpenAI at https://… for all projects`, `OpenAI for AL-Chat`."""
    if project_id is None:
        if address:
            return t("{kind} at `{address}` for all projects", kind=what, address=address)
        return t("{kind} for all projects", kind=what)
    project = project_title(project_id)
    if address:
        return t(
            "{kind} at `{address}` for **{project}**", kind=what, address=address, project=project
        )
    return t("{kind} for **{project}**", kind=what, project=project)


def project_title(project_id: str) -> str:
    titles = {it.id: it.title for it in wiring.services().papita.projects.catalogue()}
    return titles.get(project_id, project_id)


def _how_it_is_used(info: CredentialInfo, usage: Usage | None) -> str:
    if info.last_used_at is None:
        used = t("Never used.")
    elif info.last_used_by:
        by = project_title(info.last_used_by)
        used = t("Used {when} by {project}.", when=ago(info.last_used_at), project=by)
    else:
        used = t("Used {when}.", when=ago(info.last_used_at))
    parts = [used]
    if usage and usage.today:
        parts.append(tn("{count} time today.", "{count} times today.", usage.today))
    parts.append(last_test(info))
    if info.expires_at is not None:
        parts.append(expiry_sentence(info.expires_at))
    return " ".join(part for part in parts if part)


def budget_words(standing: Spending) -> str:
    """How much of a budget is spent, and from four fifths on what that means."""
    budget = standing.budget
    sums = {"spent": money(standing.spent_nano), "limit": money(budget.limit_nano)}
    if budget.project_id is None:
        words = (
            t("{spent} of {limit} spent today.", **sums)
            if budget.period == DAY
            else t("{spent} of {limit} spent this month.", **sums)
        )
    else:
        sums["project"] = project_title(budget.project_id)
        words = (
            t("{spent} of {limit} spent today by {project}.", **sums)
            if budget.period == DAY
            else t("{spent} of {limit} spent this month by {project}.", **sums)
        )
    words = plain(words)
    if standing.unpriced:
        words += " " + tn(
            "What {count} request cost is not known.",
            "What {count} requests cost is not known.",
            standing.unpriced,
        )
    if standing.exceeded:
        words += " " + t(
            "The budget is used up: nothing is lent until {date}, or until you raise it with"
            " Replace.",
            date=day_and_month(standing.until),
        )
        return f":red[:material/block: {words}]"
    return f":orange[:material/warning: {words}]" if standing.warning else words


def _actions(user: SignedIn, info: CredentialInfo) -> bool:
    sealed = wiring.services().papita.ring.sealed
    why = translated(SEALED) if sealed else None
    opened = False
    with st.container(horizontal=True, gap="small"):
        st.button(
            t("Test"),
            key=f"{PAGE}_test_{info.id}",
            disabled=sealed or CREDENTIAL_TYPES[info.credential_type].probe is None,
            help=why
            or (
                t("There is no provider to ask about this type.")
                if CREDENTIAL_TYPES[info.credential_type].probe is None
                else None
            ),
            on_click=_test,
            args=(info,),
        )
        if st.button(
            t("Replace"),
            key=f"{PAGE}_edit_{info.id}",
            disabled=sealed,
            help=why,
        ):
            replace_credential(info)
            opened = True
        if st.button(
            t("Delete"),
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
            t("More"),
            options,
            format_func=lambda option: f"{ICONS[option]} {translated(option)}",
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
        tab().notice = said(error)


def _switch(info: CredentialInfo, *, off: bool) -> None:
    state = tab()
    try:
        wiring.services().papita.credentials.set_disabled(actor(), info.id, off, etag=info.etag)
        state.models_until = 0.0
        state.notice = (
            t(
                "{label} is switched off: no project gets it until you switch it on.",
                label=info.label,
            )
            if off
            else t("{label} is switched on.", label=info.label)
        )
    except PapitaError as error:
        state.notice = said(error)
    st.rerun()


def show_shared(shared: SharedCredential) -> None:
    """A credential of somebody else: what it is and whose, and nothing to change."""
    with st.container(border=True, key=f"shared_{shared.id}"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.subheader(plain(shared.label), anchor=False, width="content")
            show_badge(shared.status)
        kind = translated(CREDENTIAL_TYPES[shared.credential_type].title)
        owner = t("Shared by {name}.", name=plain(shared.owner_name))
        expiry = f" {expiry_sentence(shared.expires_at)}" if shared.expires_at else ""
        with st.container(gap="xsmall"):
            st.markdown(kind_words(kind, shared.origin, shared.project_id))
            st.caption(owner + expiry)


# --- the record of use ---


def _forget_uses() -> None:
    st.session_state.pop(CURSORS, None)


@dialog(N_("Uses"), width="medium", icon=":material/history:", on_dismiss=_forget_uses)
def show_uses(info: CredentialInfo) -> None:
    """Every time a project read this credential, newest first."""
    user = require_user("credentials:read")
    vault = wiring.services().papita.credentials
    st.markdown(
        t(
            "Every time a project borrowed **{label}**: for each answer anew.",
            label=plain(info.label),
        )
    )
    cursors: list[str | None] = st.session_state.setdefault(CURSORS, [None])
    try:
        page = vault.uses(user.actor, info.id, cursor=cursors[-1], limit=USES_AT_ONCE)
    except PapitaError as error:
        st.error(plain(said(error)), icon=":material/error:")
        return
    if not page.items:
        st.caption(t("No project has used it yet."))
        return
    st.markdown("\n".join(use_line(use, user.session.username) for use in page.items))
    if len(cursors) == 1 and page.next_cursor is None:
        return
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        st.button(
            t("Newer"),
            icon=":material/arrow_back:",
            key="uses_newer",
            disabled=len(cursors) == 1,
            on_click=_newer,
            args=(cursors,),
        )
        st.button(
            t("Older"),
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
    when = f"{day_and_month(use.at)}, {local(use.at):%H:%M:%S}"
    run = " · " + t("run `{id}`", id=use.run_id[-RUN_ID_SHOWN:]) if use.run_id else ""
    outcome = translated(OUTCOMES.get(use.outcome, use.outcome))
    return f"- {when} · **{plain(_borrower(use, own_name))}** · {plain(outcome)}{run}"


def _borrower(use: Use, own_name: str) -> str:
    project = project_title(use.project_id) if use.project_id else t("A project")
    if use.username is None:
        return project
    if use.username == own_name:
        return t("{project} for you", project=project)
    return t("{project} for {name}", project=project, name=use.username)
