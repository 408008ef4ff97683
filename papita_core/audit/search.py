"""Looking things up in the log: filters, pages that keep their place, times as people type them."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Select, or_, select, tuple_

from papita_core.audit.chain import Event, event_of
from papita_core.audit.models import AuditRow
from papita_core.db import AnyRow, table_of
from papita_core.errors import InvalidInput
from papita_core.users.models import UserRow

FAILED = "failed"  # as an outcome to look for: any but ok; no event has it
MAX_PAGE = 500
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
YEARS = range(1970, 9999)
CURSOR = re.compile(r"([0-9]{1,17})\.([0-9]{1,18})\.([a-z0-9-]{1,32})")

_ROW, _USER = table_of(AuditRow), table_of(UserRow)
_ACTOR, _OWNER = _USER.alias("actor"), _USER.alias("owner")
Condition: TypeAlias = ColumnElement[bool]


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What to look for; None looks for anything.

    `user_id` finds what a user did and what concerns the user. `since` is the first moment that
    counts, `until` the first that does not. The outcome `FAILED` is any but ok. `without` are
    actions to leave out.
    """

    actor_id: str | None = None
    owner_id: str | None = None
    action: str | None = None
    subject_id: str | None = None
    project_id: str | None = None
    outcome: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    user_id: str | None = None
    without: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """An event of the log, with its place and time; names of those who are users."""

    stream: str
    seq: int
    at: datetime
    event: Event
    actor_name: str | None = None
    owner_name: str | None = None


@dataclass(frozen=True, slots=True)
class AuditPage:
    items: list[Entry]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where an entry stands among those of all streams, oldest first."""

    at: datetime
    stream: str
    seq: int

    @classmethod
    def of(cls, entry: Entry) -> Place:
        return cls(entry.at, entry.stream, entry.seq)

    def cursor(self) -> str:
        micros = (self.at - EPOCH) // timedelta(microseconds=1)
        text = f"{micros}.{self.seq}.{self.stream}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def at_cursor(cls, cursor: str) -> Place:
        """The place of a `cursor`. Raises `InvalidInput`."""
        try:
            text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
            found = CURSOR.fullmatch(text.decode("ascii"))
        except (binascii.Error, ValueError):
            found = None
        if found is None:
            raise InvalidInput({"cursor": "This is no cursor of a page. Begin at the first page."})
        return cls(EPOCH + timedelta(microseconds=int(found[1])), found[3], int(found[2]))


def moment(text: str, *, end: bool = False) -> datetime:
    """A time as people type it: `2026-01-31`, `2026-01-31T12:00`, `2026-01-31T12:00:00+01:00`.

    Without a zone it is UTC. A date alone is the start of that day; with `end`, the end of it.
    Raises `ValueError`.
    """
    try:
        found = datetime.combine(date.fromisoformat(text), datetime.min.time())
        found += timedelta(days=1 if end and found.year in YEARS else 0)
    except ValueError:
        found = datetime.fromisoformat(text)
    if found.year not in YEARS:
        raise ValueError("a year out of range")
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def query(*conditions: Condition) -> Select[*tuple[Any, ...]]:
    """Entries that meet all of `conditions`, with the names of actor and owner."""
    return (
        select(
            *_ROW.c["stream", "seq", "at", "body", "action", "actor_id", "owner_id"],
            *_ROW.c["subject_id", "project_id", "outcome"],
            _ACTOR.c.username.label("actor_name"),
            _OWNER.c.username.label("owner_name"),
        )
        .outerjoin(_ACTOR, _ACTOR.c.id == _ROW.c.actor_id)
        .outerjoin(_OWNER, _OWNER.c.id == _ROW.c.owner_id)
        .where(*conditions)
    )


def conditions(wanted: AuditFilter) -> list[Condition]:
    """What a filter asks of a row. Raises `InvalidInput` for text that no row can hold."""
    for name in (field.name for field in fields(wanted)):
        value = getattr(wanted, name)
        if isinstance(value, str) and not value.isprintable():
            raise InvalidInput({name: "This has characters that nothing in the log has."})
    found = [
        _ROW.c[name] == getattr(wanted, name)
        for name in ("actor_id", "owner_id", "action", "subject_id", "project_id")
        if getattr(wanted, name) is not None
    ]
    if wanted.outcome is not None:
        failed = wanted.outcome == FAILED
        found.append(_ROW.c.outcome != "ok" if failed else _ROW.c.outcome == wanted.outcome)
    if wanted.without:
        found.append(_ROW.c.action.not_in(wanted.without))
    if wanted.user_id is not None:
        found.append(or_(_ROW.c.actor_id == wanted.user_id, _ROW.c.owner_id == wanted.user_id))
    if wanted.since is not None:
        found.append(_ROW.c.at >= wanted.since)
    if wanted.until is not None:
        found.append(_ROW.c.at < wanted.until)
    return found


def newest_first(statement: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    return statement.order_by(_ROW.c.at.desc(), _ROW.c.stream.desc(), _ROW.c.seq.desc())


def oldest_first(statement: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    return statement.order_by(_ROW.c.at, _ROW.c.stream, _ROW.c.seq)


# The bare comparison of `at` is what the index on it serves.
def before(place: Place) -> list[Condition]:
    here = tuple_(_ROW.c.at, _ROW.c.stream, _ROW.c.seq)
    return [_ROW.c.at <= place.at, here < (place.at, place.stream, place.seq)]


def after(place: Place) -> list[Condition]:
    here = tuple_(_ROW.c.at, _ROW.c.stream, _ROW.c.seq)
    return [_ROW.c.at >= place.at, here > (place.at, place.stream, place.seq)]


def entry_of(row: AnyRow) -> Entry:
    """The entry of a row of `query`. A body that was damaged is told from the other columns."""
    try:
        event = event_of(row.body)
    except ValueError:
        event = Event(
            row.action,
            row.actor_id,
            row.owner_id,
            row.subject_id,
            row.project_id,
            outcome=row.outcome,
            details={"body": "unreadable"},
        )
    return Entry(row.stream, row.seq, row.at, event, row.actor_name, row.owner_name)
