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

from sqlalchemy import exists, func, or_, select, update
from sqlalchemy.orm import Session

from papita_core.actors import Actor
from papita_core.audit.models import AuditRow
from papita_core.clock import Clock, utc_now
from papita_core.db import Database
from papita_core.errors import InvalidInput
from papita_core.grants.models import LeaseRow
from papita_core.usage.models import UsageDay, UsageReport
from papita_core.usage.spending import recount
from papita_core.vault.models import Credential, CredentialShare

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
            leases = _lent(session, project_id, records)
        known = {item.id: item for item in records if (item.lease_id, item.credential_id) in leases}
        unknown = tuple(item.id for item in records if item.id not in known)
        if not known:
            return Reported(0, 0, unknown)
        with self._database.write() as session:
            new = self._new(session, project_id, sorted(known), now)
            groups: dict[tuple[Any, ...], list[Record]] = {}
            for record in (known[one] for one in new):
                lease = leases[record.lease_id, record.credential_id]
                day = min(max(record.at, lease.created_at), now).astimezone(UTC).date()
                key = (record.credential_id, day, lease.user_id, project_id, record.model)
                groups.setdefault(key, []).append(record)
            # In one order for all, so that two transactions never wait for each other.
            for key in sorted(groups):
                self._add(session, key, groups[key])
            session.flush()
            budgets = (
                select(Credential)
                .where(
                    Credential.id.in_({key[0] for key in groups}),
                    Credential.budget_nano.is_not(None),
                )
                .order_by(Credential.id)
                .with_for_update()
            )
            for row in session.scalars(budgets).all():
                recount(session, row, now)
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
        self, session: Session, project_id: str, ids: Sequence[str], now: datetime
    ) -> Sequence[str]:
        """Those of the ids that were not there; from now on they are."""
        rows = [{"project_id": project_id, "id": one, "received_at": now} for one in ids]
        statement = self._database.insert_new(UsageReport).values(rows).returning(UsageReport.id)
        return list(session.scalars(statement))

    def _add(self, session: Session, key: tuple[Any, ...], records: Sequence[Record]) -> None:
        names = ("credential_id", "day", "user_id", "project_id", "model")
        place = dict(zip(names, key, strict=True))
        more = {
            "requests": len(records),
            "unpriced_requests": sum(item.cost_nano is None for item in records),
            "prompt_tokens": sum(item.prompt_tokens or 0 for item in records),
            "completion_tokens": sum(item.completion_tokens or 0 for item in records),
            "cost_nano": sum(item.cost_nano or 0 for item in records),
        }
        session.execute(
            self._database.insert_new(UsageDay).values(**place, **dict.fromkeys(more, 0))
        )
        session.execute(
            update(UsageDay)
            .where(*(getattr(UsageDay, name) == value for name, value in place.items()))
            .values({name: getattr(UsageDay, name) + value for name, value in more.items()}),
            execution_options={"synchronize_session": False},
        )


def _lent(
    session: Session, project_id: str, records: Sequence[Record]
) -> dict[tuple[str, str], LeaseRow]:
    """The leases of those (lease id, credential id) that were lent to this project."""
    query = select(LeaseRow).where(
        LeaseRow.id.in_({item.lease_id for item in records}), LeaseRow.project_id == project_id
    )
    leases = {row.id: row for row in session.scalars(query)}
    found = {}
    for lease_id, credential_id in {(item.lease_id, item.credential_id) for item in records}:
        lease = leases.get(lease_id)
        if lease is None:
            continue
        loan = exists().where(
            AuditRow.subject_id == credential_id,
            AuditRow.at.between(lease.created_at - MARGIN, lease.expires_at + MARGIN),
            AuditRow.action == READ,
            AuditRow.project_id == project_id,
            AuditRow.outcome == "ok",
            AuditRow.body.contains(lease_id),
        )
        if session.scalar(select(loan)):
            found[lease_id, credential_id] = lease
    return found


def _labels(session: Session, actor: Actor, ids: Collection[str]) -> dict[str, str]:
    shared = exists().where(
        CredentialShare.credential_id == Credential.id, CredentialShare.user_id == actor.user_id
    )
    query = select(Credential.id, Credential.label).where(
        Credential.id.in_(ids),
        or_(Credential.owner_id == actor.user_id, Credential.shared_with_all, shared),
    )
    return {row.id: row.label for row in session.execute(query)}
