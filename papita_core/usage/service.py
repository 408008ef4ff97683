"""What projects say that they spent: believed where it was lent to them, and counted once.

A record names the lease and the credential of a loan; it counts where the audit log has that very
loan to that very project. Whose it is and when it was at the earliest is Papita's to know, not the
project's to say.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import ARRAY, String, bindparam, exists, func, insert, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from papita_core.actors import Actor
from papita_core.audit.models import AuditRow
from papita_core.clock import Clock, utc_now
from papita_core.db import AnyRow, Database, Prepared, UtcDateTime, among, table_of
from papita_core.errors import InvalidInput
from papita_core.grants.models import LeaseRow
from papita_core.usage.models import UsageDay, UsageReport
from papita_core.usage.spending import recount_all
from papita_core.vault.models import Credential, CredentialShare
from sqlkit import Many

MAX_RECORDS = 100
MAX_DAYS = 366
DEFAULT_DAYS = 30
READ = "credential.read"
# The audit log's clock is read a moment after the lease's.
MARGIN = timedelta(minutes=1)
GROUPS: dict[str, Any] = {
    "day": UsageDay.day,
    "credential": UsageDay.credential_id,
    "project": UsageDay.project_id,
    "model": UsageDay.model,
}


@dataclass(frozen=True, slots=True)
class Record:
    """One request to a provider. `id` is the project's own name for it; None is unknown."""

    id: str
    lease_id: str
    credential_id: str
    model: str
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_nano: int | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Reported:
    """`unknown` are the ids of records that name no loan to this project, or one of long ago."""

    counted: int
    repeated: int
    unknown: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One group. `label` is that of a credential that the user still knows."""

    key: str
    label: str | None
    requests: int
    unpriced_requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_nano: int


class UsageService:
    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    def report(self, project_id: str, records: Sequence[Record]) -> Reported:
        """Counts what was not counted before, at most 100 records at once."""
        if len(records) > MAX_RECORDS:
            raise ValueError("too many records at once")
        now = self._clock()
        # Before the write: on SQLite loans would wait for it.
        with self._database.read() as session:
            leases = _lent(session.connection(), project_id, records)
        known = {item.id: item for item in records if (item.lease_id, item.credential_id) in leases}
        unknown = tuple(item.id for item in records if item.id not in known)
        if not known:
            return Reported(0, 0, unknown)
        with self._database.write_plainly() as connection:
            new = self._new(connection, project_id, sorted(known), now)
            groups: dict[tuple[Any, ...], list[Record]] = {}
            for record in (known[one] for one in new):
                lease = leases[record.lease_id, record.credential_id]
                day = min(max(record.at, lease.created_at), now).astimezone(UTC).date()
                key = (record.credential_id, day, lease.user_id, project_id, record.model)
                groups.setdefault(key, []).append(record)
            if groups:
                # In one order for all, so that two transactions never wait for each other.
                rows = [_day(key, groups[key]) for key in sorted(groups)]
                _ADD[connection.dialect.name].run(connection, *rows)
                recount_all(connection, {key[0] for key in groups}, now)
        return Reported(len(new), len(records) - len(unknown) - len(new), unknown)

    def of(
        self, actor: Actor, group: str, *, since: date | None = None, until: date | None = None
    ) -> Sequence[Line]:
        """What the actor's projects spent on the days from `since` to `until`, both included.

        Grouped by day, credential, project or model; days ascending, the rest by cost. Without
        `since` the last 30 days. Raises `InvalidInput`.
        """
        actor.require("credentials:read")
        column = GROUPS.get(group)
        if column is None:
            raise InvalidInput({"group": f"Group by one of these: {', '.join(GROUPS)}."})
        last = until or self._clock().astimezone(UTC).date()
        first = since or last - timedelta(days=DEFAULT_DAYS - 1)
        if not 0 <= (last - first).days < MAX_DAYS:
            raise InvalidInput({"since": f"Ask for 1 to {MAX_DAYS} days, the first one first."})
        sums = [
            func.sum(it)
            for it in (
                UsageDay.requests,
                UsageDay.unpriced_requests,
                UsageDay.prompt_tokens,
                UsageDay.completion_tokens,
                UsageDay.cost_nano,
            )
        ]
        query = (
            select(column, *sums)
            .where(UsageDay.user_id == actor.user_id, UsageDay.day.between(first, last))
            .group_by(column)
            .order_by(column if group == "day" else sums[-1].desc(), column)
        )
        with self._database.read() as session:
            rows = session.execute(query).all()
            labels = (
                _labels(session, actor, {row[0] for row in rows}) if group == "credential" else {}
            )
        return [
            Line(str(key), labels.get(key), *(int(figure) for figure in figures))
            for key, *figures in rows
        ]

    def _new(
        self, connection: Connection, project_id: str, ids: Sequence[str], now: datetime
    ) -> Sequence[str]:
        """Those of the ids that were not there; from now on they are."""
        given = {"project": project_id, "ids": ids, "now": now}
        if not self._database.is_sqlite:
            return [row.id for row in _NOTED.rows(connection, given)]
        # Nobody else writes between the two.
        there = {row.id for row in _THERE.rows(connection, given)}
        new = [one for one in ids if one not in there]
        if new:
            rows = [{"project_id": project_id, "id": one, "received_at": now} for one in new]
            _NOTE.run(connection, *rows)
        return new


def _day(key: tuple[Any, ...], records: Sequence[Record]) -> dict[str, Any]:
    """What the records add to one row of `usage_days`."""
    names = ("credential_id", "day", "user_id", "project_id", "model")
    return {
        **dict(zip(names, key, strict=True)),
        "requests": len(records),
        "unpriced_requests": sum(item.cost_nano is None for item in records),
        "prompt_tokens": sum(item.prompt_tokens or 0 for item in records),
        "completion_tokens": sum(item.completion_tokens or 0 for item in records),
        "cost_nano": sum(item.cost_nano or 0 for item in records),
    }


def _lent(
    connection: Connection, project_id: str, records: Sequence[Record]
) -> dict[tuple[str, str], AnyRow]:
    """The leases of those (lease id, credential id) that were lent to this project."""
    pairs = {(item.lease_id, item.credential_id) for item in records}
    given = {"ids": {lease_id for lease_id, _ in pairs}, "project": project_id}
    leases = {row.id: row for row in _LEASES.rows(connection, given)}
    asked = [
        {
            "lease": lease.id,
            "credential": credential_id,
            "project": project_id,
            "since": lease.created_at - MARGIN,
            "until": lease.expires_at + MARGIN,
        }
        for lease_id, credential_id in pairs
        if (lease := leases.get(lease_id)) is not None
    ]
    found = _LOANS.rows(connection, asked)
    return {(row.lease, row.credential): leases[row.lease] for row in found if row.lent}


def _labels(session: Session, actor: Actor, ids: Collection[str]) -> dict[str, str]:
    shared = exists().where(
        CredentialShare.credential_id == Credential.id, CredentialShare.user_id == actor.user_id
    )
    query = select(Credential.id, Credential.label).where(
        Credential.id.in_(ids),
        or_(Credential.owner_id == actor.user_id, Credential.shared_with_all, shared),
    )
    return {row.id: row.label for row in session.execute(query)}


# Plain tables: every answer ends in a report.
_LEASE, _AUDIT = table_of(LeaseRow), table_of(AuditRow)
_DAY, _REPORT = table_of(UsageDay), table_of(UsageReport)

_LEASES = Prepared(
    select(*_LEASE.c["id", "user_id", "created_at", "expires_at"]).where(
        among(_LEASE.c.id, "ids"), _LEASE.c.project_id == bindparam("project")
    )
)
# Among the columns: as a condition, PostgreSQL would join the two, and read the whole log for it
# where it has no statistics yet.
_LOANS = Many(
    lambda given: select(
        given.lease.label("lease"),
        given.credential.label("credential"),
        exists()
        .where(
            _AUDIT.c.subject_id == given.credential,
            _AUDIT.c.at.between(given.since, given.until),
            _AUDIT.c.action == READ,
            _AUDIT.c.project_id == given.project,
            _AUDIT.c.outcome == "ok",
            # The id of a lease that is there: no character of it is a wildcard.
            _AUDIT.c.body.contains(given.lease),
        )
        .label("lent"),
    ),
    {
        "lease": String(),
        "credential": String(),
        "project": String(),
        "since": UtcDateTime(),
        "until": UtcDateTime(),
    },
)

_THERE = Prepared(
    select(_REPORT.c.id).where(
        _REPORT.c.project_id == bindparam("project"), among(_REPORT.c.id, "ids")
    )
)
_NOTE = Prepared(insert(_REPORT))
# Both as one statement, for PostgreSQL alone: others may note the same ids at the same time.
_NEW = (
    postgresql.insert(_REPORT)
    .from_select(
        ["project_id", "id", "received_at"],
        select(
            bindparam("project", type_=String()),
            func.unnest(bindparam("ids", type_=ARRAY(String))),
            bindparam("now", type_=UtcDateTime()),
        ),
    )
    .on_conflict_do_nothing()
    .returning(_REPORT.c.id)
    .cte("new")
)
_NOTED = Prepared(select(_NEW.c.id))


def _adding(make: Any) -> Prepared:
    """Adds to the figures of a day, or begins them. `make` is the INSERT of one engine."""
    statement = make(_DAY)
    figures = [column.name for column in _DAY.c if not column.primary_key]
    return Prepared(
        statement.on_conflict_do_update(
            index_elements=list(_DAY.primary_key),
            set_={name: _DAY.c[name] + statement.excluded[name] for name in figures},
        )
    )


_ADD = {"sqlite": _adding(sqlite.insert), "postgresql": _adding(postgresql.insert)}
