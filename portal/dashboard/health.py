"""How a project is doing as this user experiences it: service, vault, key, last answer.

A card is green only where all of it is well; what is not says so and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum

import streamlit as st

from papita_core.errors import CredentialNotFound, PapitaError
from papita_core.projects.catalogue import Project
from papita_core.usage.budgets import Spending
from portal import wiring
from portal.launcher import State, Status
from portal.session import SignedIn
from portal.texts import said, t, tn, translated
from portal.words import ago, money, plain

SOON = timedelta(days=14)


class Standing(IntEnum):
    """From well to broken; the worst of its parts is that of the whole."""

    OK = 0
    UNKNOWN = 1
    ATTENTION = 2
    BROKEN = 3


SIGNS = {
    Standing.OK: (":green[:material/check_circle:]", "green"),
    Standing.UNKNOWN: (":gray[:material/radio_button_unchecked:]", "gray"),
    Standing.ATTENTION: (":orange[:material/warning:]", "orange"),
    Standing.BROKEN: (":red[:material/error:]", "red"),
}
# What the last test of a key said, or the state that makes a test beside the point.
KEYS = {
    "ok": Standing.OK,
    "untested": Standing.UNKNOWN,
    "rate_limited": Standing.ATTENTION,
    "unreachable": Standing.ATTENTION,
    "refused": Standing.ATTENTION,
    "error": Standing.ATTENTION,
}
# An answer that fails for one of these is not the project's fault but a message's.
OF_THE_MESSAGE = frozenset({"content-filtered", "context-too-long", "bad-request", "interrupted"})


@dataclass(frozen=True, slots=True)
class Part:
    """One of the things that must be well. `sentence` is empty where there is nothing to say."""

    name: str
    standing: Standing
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class LastAnswer:
    """How the latest answer ended. `code` and `sentence` are empty unless it failed."""

    at: datetime
    code: str = ""
    sentence: str = ""


def service_part(status: Status, *, can_start: bool) -> Part:
    """The process and what its health address says."""
    name = t("Service")
    if status.state is State.RUNNING:
        return Part(name, Standing.OK)
    if status.state is State.STARTING:
        return Part(name, Standing.UNKNOWN, t("It is starting."))
    if status.state is State.STOPPED and can_start:
        return Part(name, Standing.UNKNOWN, t("It starts when you open it."))
    return Part(name, Standing.BROKEN, translated(status.detail))


def vault_part(*, sealed: bool) -> Part:
    if not sealed:
        return Part(t("Vault"), Standing.OK)
    return Part(t("Vault"), Standing.BROKEN, t("The vault is sealed: no key can be used."))


def key_part(
    status: str, expires_at: datetime | None, budget: Spending | None, now: datetime
) -> Part:
    """The key that the project would use: its last test, its expiry and its budget."""
    name = t("Key")
    standing = KEYS.get(status, Standing.BROKEN)
    if standing is Standing.BROKEN:
        sentences = {
            "rejected": t("The provider rejects your key. Replace it."),
            "expired": t("Your key has expired. Replace it."),
            "disabled": t("Your key is switched off."),
            "blocked": t("An administrator has blocked your key."),
        }
        return Part(
            name, standing, sentences.get(status, t("Your key cannot be used. Replace it."))
        )
    if budget is not None and budget.exceeded:
        return Part(name, Standing.BROKEN, t("The budget of your key is used up."))
    if standing is Standing.ATTENTION:
        sentences = {
            "rate_limited": t("At its last test the provider asked to wait."),
            "unreachable": t("At its last test the provider did not answer."),
        }
        return Part(name, standing, sentences.get(status, t("The last test of your key failed.")))
    if expires_at is not None and expires_at - now < SOON:
        days = (expires_at.date() - now.date()).days
        said_days = {0: t("Your key expires today."), 1: t("Your key expires tomorrow.")}
        late = said_days.get(days) or tn(
            "Your key expires in {count} day.", "Your key expires in {count} days.", days
        )
        return Part(name, Standing.ATTENTION, late)
    if budget is not None and budget.warning:
        spent, limit = money(budget.spent_nano), money(budget.budget.limit_nano)
        text = t("{spent} of the {limit} budget of your key are spent.", spent=spent, limit=limit)
        return Part(name, Standing.ATTENTION, plain(text))
    if status == "untested":
        return Part(name, Standing.UNKNOWN, t("Your key has not been tested yet."))
    return Part(name, Standing.OK)


def answer_part(last: LastAnswer | None) -> Part:
    """What the user's latest answer came to. None where it is not known."""
    name = t("Answers")
    if last is None:
        return Part(name, Standing.UNKNOWN)
    if not last.code or last.code in OF_THE_MESSAGE:
        return Part(name, Standing.OK)
    when = ago(last.at)
    text = t(
        "The last answer failed {when}: {why}", when=when, why=plain(translated(last.sentence))
    )
    return Part(name, Standing.ATTENTION, text)


def parts_of(
    user: SignedIn, project: Project, status: Status, last: LastAnswer | None
) -> Sequence[Part]:
    """All that must be well for this user to get an answer of the project."""
    services = wiring.services()
    found = [
        service_part(status, can_start=services.launcher.can_start(project.id)),
        vault_part(sealed=services.papita.ring.sealed),
        _key_of(user, project),
    ]
    return [*found, answer_part(last)] if status.state is State.RUNNING else found


def _key_of(user: SignedIn, project: Project) -> Part:
    papita = wiring.services().papita
    now = datetime.now(UTC)
    try:
        which = papita.grants.which(user.actor, project.id)
        used = which.credential
        if used is None:
            if which.code == CredentialNotFound.code:
                return Part(t("Key"), Standing.ATTENTION, t("It has no key to use yet."))
            return Part(t("Key"), Standing.BROKEN, plain(translated(which.sentence)))
        if used.shared_by is None:
            own = papita.credentials.get(user.actor, used.id)
            return key_part(own.status, own.expires_at, own.budget, now)
        for item in papita.credentials.shared_with_me(user.actor):
            if item.id == used.id:
                return key_part(item.status, item.expires_at, None, now)
    except PapitaError as error:
        return Part(t("Key"), Standing.BROKEN, plain(said(error)))
    return Part(t("Key"), Standing.UNKNOWN)


def badge_of(status: Status, parts: Sequence[Part]) -> tuple[str, str, str]:
    """Words, colour and icon of the whole."""
    if status.state is State.STARTING:
        return t("Starting"), "blue", ":material/progress_activity:"
    worst = max(part.standing for part in parts)
    if worst is Standing.BROKEN:
        return t("Does not work"), "red", ":material/error:"
    if worst is Standing.ATTENTION:
        return t("Needs attention"), "orange", ":material/warning:"
    if status.state is State.STOPPED:
        return t("Stopped"), "gray", ":material/stop_circle:"
    if worst is Standing.UNKNOWN:
        return t("Running"), "blue", ":material/play_circle:"
    return t("Ready"), "green", ":material/check_circle:"


def show_health_of(status: Status, parts: Sequence[Part]) -> None:
    """The badge, a line of the parts, and a sentence for each that has one."""
    title, color, icon = badge_of(status, parts)
    st.badge(title, color=color, icon=icon)  # type: ignore[arg-type]
    st.caption("\u2002".join(f"{SIGNS[part.standing][0]} {part.name}" for part in parts))
    sentences = [part.sentence for part in parts if part.sentence]
    if sentences:
        st.caption("  \n".join(sentences))
