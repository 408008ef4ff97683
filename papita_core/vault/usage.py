"""Who used a credential, as the audit log has it."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from papita_core.actors import Actor
from papita_core.audit.models import AuditRow
from papita_core.errors import InvalidInput
from papita_core.users.models import UserRow
from papita_core.vault.models import Credential
from papita_core.vault.own import BAD_CURSOR, OwnCredentials, checked_limit
from papita_core.vault.records import Page, Usage, Use

READ = "credential.read"


class UsageRecord(OwnCredentials):
    def usage(self, actor: Actor, credential_ids: Collection[str]) -> dict[str, Usage]:
        """How each own credential is used; ids that are not the actor's own are left out."""
        actor.require("credentials:read")
        midnight = self._clock().replace(hour=0, minute=0, second=0, microsecond=0)
        with self._database.read() as session:
            mine = session.scalars(
                select(Credential.id).where(
                    Credential.owner_id == actor.user_id, Credential.id.in_(credential_ids)
                )
            ).all()
            counts = dict(
                session.execute(
                    select(AuditRow.subject_id, func.count())
                    .where(
                        AuditRow.subject_id.in_(mine),
                        AuditRow.at >= midnight,
                        AuditRow.action == READ,
                        AuditRow.outcome == "ok",
                    )
                    .group_by(AuditRow.subject_id)
                ).all()
            )
            return {
                credential_id: Usage(counts.get(credential_id, 0), *_last(session, credential_id))
                for credential_id in mine
            }

    def uses(
        self, actor: Actor, credential_id: str, *, cursor: str | None = None, limit: int = 50
    ) -> Page[Use]:
        """Each read of an own credential, newest first, also by those it is shared with."""
        actor.require("credentials:read")
        checked_limit(limit, "reads")
        place = tuple_(AuditRow.at, AuditRow.stream, AuditRow.seq)
        with self._database.read() as session:
            row = self._mine(session, actor, credential_id)
            query = (
                select(AuditRow)
                .where(AuditRow.subject_id == row.id, AuditRow.action == READ)
                .order_by(AuditRow.at.desc(), AuditRow.stream.desc(), AuditRow.seq.desc())
                .limit(limit + 1)
            )
            if cursor is not None:
                query = query.where(place < _place(cursor))
            rows = session.scalars(query).all()
            bodies = [json.loads(item.body) for item in rows[:limit]]
            names = _names(session, [_user_of(body) for body in bodies])
        items = [
            Use(
                item.at,
                names.get(_user_of(body) or ""),
                item.project_id,
                body.get("run_id"),
                item.outcome,
            )
            for item, body in zip(rows, bodies, strict=False)
        ]
        return Page(items, _cursor(rows[limit - 1]) if len(rows) > limit else None)


def _last(session: Session, credential_id: str) -> tuple[datetime | None, str | None]:
    found = session.execute(
        select(AuditRow.at, AuditRow.project_id)
        .where(
            AuditRow.subject_id == credential_id,
            AuditRow.action == READ,
            AuditRow.outcome == "ok",
        )
        .order_by(AuditRow.at.desc())
        .limit(1)
    ).one_or_none()
    return (None, None) if found is None else (found.at, found.project_id)


def _user_of(body: dict[str, object]) -> str | None:
    """For whom a project read: the user of the lease, who need not own the credential."""
    found = body.get("owner_id")
    return found if isinstance(found, str) else None


def _names(session: Session, user_ids: Sequence[str | None]) -> dict[str, str]:
    query = select(UserRow.id, UserRow.username).where(
        UserRow.id.in_({user_id for user_id in user_ids if user_id})
    )
    return dict(session.execute(query).all())


def _cursor(row: AuditRow) -> str:
    return f"{row.at.isoformat(timespec='microseconds')}~{row.stream}~{row.seq}"


def _place(cursor: str) -> tuple[datetime, str, int]:
    try:
        at, stream, seq = cursor.split("~")
        place = datetime.fromisoformat(at), stream[:32], int(seq[:18])
    except ValueError:
        raise InvalidInput(BAD_CURSOR) from None
    if place[0].tzinfo is None or "\0" in stream:
        raise InvalidInput(BAD_CURSOR)
    return place
