"""Looking through the users: search, filters, pages and counts, all of them in SQL.

Made for ten thousand accounts: a page costs what its rows cost, a search one walk along an index.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, func, literal_column, or_, select
from sqlalchemy.engine import Row

from papita_core.actors import ROLES
from papita_core.db import table_of
from papita_core.errors import InvalidInput
from papita_core.users.models import Passkey, SessionRow, TotpDevice, UserRow, searchable

ENABLED, DISABLED, WAITING = "enabled", "disabled", "waiting"
ASKED, WEAK = "asked-for-reset", "no-second-factor"
STATES = (ENABLED, DISABLED, WAITING, ASKED, WEAK)
MAX_PAGE = 200
LONGEST_SEARCH = 200


@dataclass(frozen=True, slots=True)
class UserFilter:
    """`text` is looked for in names and e-mails, word by word; `state` is one of STATES."""

    text: str = ""
    role: str | None = None
    state: str | None = None


@dataclass(frozen=True, slots=True)
class ListedUser:
    """A user as administrators see them. `waiting_since`: signed up and not approved yet;
    `reset_asked_at`: asked at the door for a new password, and has had no link since.
    """

    id: str
    username: str
    display_name: str
    email: str | None
    role: str
    disabled: bool
    waiting_since: datetime | None
    reset_asked_at: datetime | None
    created_at: datetime
    last_seen_at: datetime | None
    second_factor: bool

    @property
    def name(self) -> str:
        return self.display_name or self.username

    @property
    def state(self) -> str:
        """`waiting`, `disabled` or `enabled`."""
        return WAITING if self.waiting_since else DISABLED if self.disabled else ENABLED


@dataclass(frozen=True, slots=True)
class UserPage:
    """`next_cursor` leads to the next page; None: this is the last one."""

    items: list[ListedUser]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Counts:
    """`total` counts everybody, `disabled` nobody who waits for approval."""

    total: int
    administrators: int
    disabled: int
    waiting: int
    reset_asked: int


_USER, _SESSION = table_of(UserRow), table_of(SessionRow)
_TOTP, _PASSKEY = table_of(TotpDevice), table_of(Passkey)
_WAITS, _OFF = _USER.c.awaits_approval_since, _USER.c.disabled_at
# Word for word as the index has it, which is used for no parameter.
_ADMINISTRATOR = _USER.c.role == literal_column("'administrator'")
_HAS_FACTOR = or_(
    exists().where(_TOTP.c.user_id == _USER.c.id, _TOTP.c.confirmed_at.is_not(None)),
    exists().where(_PASSKEY.c.user_id == _USER.c.id),
)
_LAST_SEEN = (
    select(func.max(_SESSION.c.last_seen_at))
    .where(_SESSION.c.user_id == _USER.c.id)
    .scalar_subquery()
)
_IN_STATE: dict[str, tuple[ColumnElement[bool], ...]] = {
    ENABLED: (_OFF.is_(None), _WAITS.is_(None)),
    DISABLED: (_OFF.is_not(None), _WAITS.is_(None)),
    WAITING: (_WAITS.is_not(None),),
    ASKED: (_USER.c.reset_asked_at.is_not(None),),
    WEAK: (_OFF.is_(None), _WAITS.is_(None), ~_HAS_FACTOR),
}


_LISTED = select(
    *_USER.c["id", "username", "display_name", "email", "role", "disabled_at"],
    *_USER.c["awaits_approval_since", "reset_asked_at", "created_at", "last_sign_in_at"],
    _LAST_SEEN.label("last_seen_at"),
    _HAS_FACTOR.label("second_factor"),
)


def conditions(wanted: UserFilter) -> list[ColumnElement[bool]]:
    """Raises `InvalidInput`."""
    errors = {}
    if len(wanted.text) > LONGEST_SEARCH:
        errors["text"] = f"A search has at most {LONGEST_SEARCH} characters."
    if wanted.role is not None and wanted.role not in ROLES:
        errors["role"] = f"The roles are {', '.join(ROLES)}."
    if wanted.state is not None and wanted.state not in STATES:
        errors["state"] = f"The states are {', '.join(STATES)}."
    if errors:
        raise InvalidInput(errors)
    # NUL ends a string in SQLite and is none for PostgreSQL; no name has one.
    words = searchable(wanted.text.replace("\0", "\ufffd")).split()
    found = [_USER.c.search_key.contains(word, autoescape=True) for word in words]
    if wanted.role is not None:
        found.append(
            _ADMINISTRATOR if wanted.role == "administrator" else _USER.c.role == wanted.role
        )
    return [*found, *_IN_STATE.get(wanted.state or "", ())]


def page(wanted: UserFilter, cursor: str | None, limit: int) -> Select[*tuple[Any, ...]]:
    """The rows of a page by name, and one more where there are more. Raises `InvalidInput`."""
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidInput({"limit": f"A page holds 1 to {MAX_PAGE} users."})
    statement = _LISTED.where(*conditions(wanted))
    if cursor is not None:
        if not cursor.isprintable():
            raise InvalidInput({"cursor": "This is no cursor of a page. Begin at the first page."})
        statement = statement.where(_USER.c.username > cursor)
    return statement.order_by(_USER.c.username).limit(limit + 1)


def one(username: str) -> Select[*tuple[Any, ...]]:
    """The row of one user, as a page has it."""
    return _LISTED.where(_USER.c.username == username.replace("\0", "\ufffd"))


def listed(row: Row[*tuple[Any, ...]]) -> ListedUser:
    seen = [moment for moment in (row.last_seen_at, row.last_sign_in_at) if moment is not None]
    return ListedUser(
        row.id,
        row.username,
        row.display_name,
        row.email,
        row.role,
        row.disabled_at is not None,
        row.awaits_approval_since,
        row.reset_asked_at,
        row.created_at,
        max(seen, default=None),
        row.second_factor,
    )


def matching(wanted: UserFilter) -> Select[int]:
    """How many fit. Raises `InvalidInput`."""
    return select(func.count()).select_from(_USER).where(*conditions(wanted))


def counting() -> Select[*tuple[Any, ...]]:
    """The columns of `Counts`, each from an index that holds nothing else."""

    def count(*where: ColumnElement[bool]) -> Any:
        return select(func.count()).select_from(_USER).where(*where).scalar_subquery()

    return select(
        count().label("total"),
        count(_ADMINISTRATOR).label("administrators"),
        count(_OFF.is_not(None), _WAITS.is_(None)).label("disabled"),
        count(_WAITS.is_not(None)).label("waiting"),
        count(_USER.c.reset_asked_at.is_not(None)).label("reset_asked"),
    )
