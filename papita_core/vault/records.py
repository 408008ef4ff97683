"""What the credential service takes and gives: plain values, none of which shows a secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from papita_core.usage.budgets import KEEP, Budget, Keep, Spending

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CredentialInfo:
    """A credential without its secret.

    `status` is blocked (by an administrator), disabled (by its owner), expired, unreadable,
    untested or what the last test said. `shared` is nobody, named or everybody; `last_used_by` the
    project that used it last.
    """

    id: str
    label: str
    credential_type: str
    project_id: str | None
    hint: str
    base_url: str
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime
    last_used_at: datetime | None
    last_used_by: str | None
    checked_at: datetime | None
    disabled: bool
    blocked: bool
    shared: str
    status: str
    etag: str
    budget: Spending | None = None


@dataclass(frozen=True, slots=True)
class NewCredential:
    """What a user types. `secret` maps the type's field names to values."""

    credential_type: str
    secret: Mapping[str, str] = field(repr=False)
    label: str | None = None
    project_id: str | None = None
    base_url: str | None = None
    expires_at: datetime | None = None
    budget: Budget | None = None


@dataclass(frozen=True, slots=True)
class ReplaceCredential:
    """The new state of a credential; `secret=None` and `budget=KEEP` keep what is there."""

    label: str | None = None
    project_id: str | None = None
    base_url: str | None = None
    expires_at: datetime | None = None
    secret: Mapping[str, str] | None = field(default=None, repr=False)
    budget: Budget | Keep | None = KEEP


@dataclass(frozen=True, slots=True)
class TestResult:
    """What came of asking: ok, rejected, rate_limited, unreachable, refused or error.

    untested where the type has nobody to ask.
    """

    __test__ = False

    status: str
    checked_at: datetime
    detail: str


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    items: list[T]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Usage:
    """How often a credential was read on this UTC day, and when and by which project last."""

    today: int
    last_at: datetime | None
    last_project: str | None


@dataclass(frozen=True, slots=True)
class Use:
    """One read of a credential. `username` is for whom; `outcome` is ok, or why not."""

    at: datetime
    username: str | None
    project_id: str | None
    run_id: str | None
    outcome: str


@dataclass(frozen=True, slots=True)
class Shares:
    """Who may use a credential besides its owner."""

    everybody: bool
    usernames: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SharedCredential:
    """A credential of somebody else that the user may use through projects."""

    id: str
    label: str
    credential_type: str
    project_id: str | None
    origin: str
    owner_name: str
    status: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class AdminCredential:
    """Anybody's credential as an administrator sees it: neither hint nor address."""

    id: str
    label: str
    credential_type: str
    owner_name: str
    project_id: str | None
    status: str
    blocked: bool
    shared: str
    last_used_at: datetime | None
