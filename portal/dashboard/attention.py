"""What wants something of the user, each in one line with the way to settle it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import streamlit as st

from papita_core.operations.doctor import BACKUP_EVERY, backups
from papita_core.vault.service import CredentialInfo
from portal import navigation, wiring
from portal.dashboard.health import SOON
from portal.session import SignedIn
from portal.texts import t, tn
from portal.words import day, plain

REPLACE = "replace"  # the credentials page opens the form for the id behind this query parameter
FAILING = ("rejected", "unreadable")


def show_attention(user: SignedIn) -> None:
    """Keys that fail or run out, budgets that are nearly spent, and backups, for administrators."""
    now = datetime.now(UTC)
    mine = wiring.services().papita.credentials.list(user.actor, limit=200).items
    for info in mine:
        if info.disabled or info.blocked:
            continue
        if info.status in FAILING:
            _say_failing(info)
        elif info.expires_at is not None and info.expires_at - now < SOON:
            _say_expiring(info, info.expires_at, now)
        if info.budget is not None and info.budget.warning:
            _say_spent(info, exceeded=info.budget.exceeded)
    if user.actor.may("vault:manage"):
        _say_backup(now)


def _line(key: str, text: str, *, bad: bool, label: str = "", query: str = "") -> None:
    color, icon = ("red", "error") if bad else ("orange", "warning")
    with st.container(
        border=True,
        horizontal=True,
        vertical_alignment="center",
        horizontal_alignment="distribute",
        key=key,
    ):
        st.markdown(f":{color}[:material/{icon}:] {text}", width="content")
        if label:
            st.page_link(
                navigation.page("credentials"),
                label=label,
                icon=":material/edit:",
                query_params={REPLACE: query},
            )


def _say_failing(info: CredentialInfo) -> None:
    label = plain(info.label)
    text = (
        t("The provider rejects **{label}**.", label=label)
        if info.status == "rejected"
        else t("**{label}** cannot be read any more.", label=label)
    )
    _line(f"failing_{info.id}", text, bad=True, label=t("Replace it"), query=info.id)


def _say_expiring(info: CredentialInfo, expires_at: datetime, now: datetime) -> None:
    label, gone = plain(info.label), expires_at <= now
    days = (expires_at.date() - now.date()).days
    if gone:
        when = day(expires_at)
        text = t("**{label}** expired {when}.", label=label, when=when)
        text += " " + t("Projects cannot use it any more.")
    elif not days:
        text = t("**{label}** expires today.", label=label)
    elif days == 1:
        text = t("**{label}** expires tomorrow.", label=label)
    else:
        text = tn(
            "**{label}** expires in {count} day.",
            "**{label}** expires in {count} days.",
            days,
            label=label,
        )
    _line(f"expiring_{info.id}", text, bad=gone, label=t("Replace it"), query=info.id)


def _say_spent(info: CredentialInfo, *, exceeded: bool) -> None:
    label = plain(info.label)
    text = (
        t("The budget of **{label}** is used up.", label=label)
        if exceeded
        else t("Most of the budget of **{label}** is spent.", label=label)
    )
    _line(f"spent_{info.id}", text, bad=exceeded, label=t("Change it"), query=info.id)


def _say_backup(now: datetime) -> None:
    with wiring.services().papita.database.read() as session:
        last, first_row = backups(session)
    command = "`python -m papita_core backup DIR`"
    if last is None:
        if first_row is not None and now - first_row > BACKUP_EVERY:
            text = t("There has never been a backup. Make one with {command}.", command=command)
            _line("backup", text, bad=False)
    elif now - last > BACKUP_EVERY:
        days = (now - last) // timedelta(days=1)
        text = tn(
            "The last backup is {count} day old. Make one with {command}.",
            "The last backup is {count} days old. Make one with {command}.",
            days,
            command=command,
        )
        _line("backup", text, bad=False)
