"""Which credential a project gets: one rule, which lends and which explains.

A user's own credential for the project goes before the user's own for all projects, and both before
what others share with the user. The rule is pure: it is given what there is, and the time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from papita_core.credential_types import meets
from papita_core.errors import (
    CredentialDisabled,
    CredentialExpired,
    CredentialNotFound,
    PapitaError,
)

PROJECT = "project"
ALL_PROJECTS = "all-projects"
SHARED = "shared"

SHARED_EXPIRED = (
    "The credential that is shared with you has expired. Add one of your own in the credentials"
    " editor, or ask whoever shares it to replace it."
)
SHARED_DISABLED = (
    "The credential that is shared with you is switched off. Add one of your own in the credentials"
    " editor, or ask whoever shares it to switch it on."
)
BLOCKED = (
    "An administrator has blocked the credential. Add another one in the credentials editor, or ask"
    " an administrator."
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A credential that is the user's own or shared with the user; `project_id` binds it to one.

    `disabled` is its owner's switch, `blocked` an administrator's, and `owner_disabled` says that
    whoever shares it may not use Papita any more.
    """

    id: str
    owner_id: str
    credential_type: str
    project_id: str | None
    expires_at: datetime | None
    updated_at: datetime
    disabled: bool = False
    blocked: bool = False
    owner_disabled: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """What a project gets. `reason` is PROJECT, ALL_PROJECTS or SHARED."""

    candidate: Candidate
    reason: str


@dataclass(frozen=True, slots=True)
class Need:
    """A project of a user asks for a credential: of a type, or of whatever speaks a protocol."""

    user_id: str
    project_id: str
    asked: str


def choose(candidates: Iterable[Candidate], need: Need, now: datetime) -> Choice | PapitaError:
    """The credential that is used, or why there is none.

    The errors are `CredentialNotFound` (nothing fits), `CredentialDisabled` (what fits is switched
    off) and `CredentialExpired`: that, too, where others share a live one, because a project must
    not pass to the team's credential in silence when the user's own has run out.
    """
    fitting = [item for item in candidates if fits(item, need)]
    switched_on = [item for item in fitting if not (item.disabled or item.blocked)]
    live = [item for item in switched_on if not expired(item, now)]
    own = [item for item in switched_on if item.owner_id == need.user_id]
    if own and not any(item.owner_id == need.user_id for item in live):
        return CredentialExpired()
    if live:
        best = max(live, key=lambda item: _rank(item, need))
        return Choice(best, _reason(best, need))
    return _refusal(fitting, need, now)


def fits(item: Candidate, need: Need) -> bool:
    """Whether a project could use it, were it switched on and live."""
    return (
        item.project_id in (None, need.project_id)
        and meets(item.credential_type, need.asked)
        and (item.owner_id == need.user_id or not item.owner_disabled)
    )


def expired(item: Candidate, now: datetime) -> bool:
    return item.expires_at is not None and item.expires_at <= now


def unusable(item: Candidate, need: Need, now: datetime) -> PapitaError | None:
    """Why a credential that fits cannot be used; None where it can."""
    own = item.owner_id == need.user_id
    if item.blocked:
        return CredentialDisabled(BLOCKED)
    if item.disabled:
        return CredentialDisabled(None if own else SHARED_DISABLED)
    if expired(item, now):
        return CredentialExpired(None if own else SHARED_EXPIRED)
    return None


def _refusal(fitting: Iterable[Candidate], need: Need, now: datetime) -> PapitaError:
    """Why none of those that fit can be used.

    With an own one that is switched off, what others share would not help the user further; else
    what has run out was in use last.
    """
    ranked = sorted(fitting, key=lambda item: _rank(item, need), reverse=True)
    ranked.sort(key=lambda item: (item.owner_id != need.user_id, item.disabled or item.blocked))
    found = (unusable(item, need, now) for item in ranked)
    return next((why for why in found if why is not None), CredentialNotFound())


def _rank(item: Candidate, need: Need) -> tuple[bool, bool, bool, datetime, str]:
    return (
        item.owner_id == need.user_id,
        item.project_id is not None,
        item.credential_type == need.asked,
        item.updated_at,
        item.id,
    )


def _reason(item: Candidate, need: Need) -> str:
    if item.owner_id != need.user_id:
        return SHARED
    return ALL_PROJECTS if item.project_id is None else PROJECT
