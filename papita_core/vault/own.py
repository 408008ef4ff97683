"""What every part of the credential service works with: a user's own rows, and what is shown."""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from papita_core.actors import Actor
from papita_core.audit.service import AuditLog, Event
from papita_core.clock import Clock
from papita_core.db import Database
from papita_core.errors import CredentialNotFound, InvalidInput, PreconditionFailed
from papita_core.usage.budgets import spending_of
from papita_core.vault.models import Credential, CredentialShare
from papita_core.vault.records import CredentialInfo

ID = re.compile(r"[0-9a-f-]{36}")
MAX_LIST = 200
BAD_CURSOR = {"cursor": "This cursor is not valid any more. Begin again."}


class OwnCredentials:
    """Finds rows for an actor. What is not there and what is another's are the same error."""

    def __init__(self, database: Database, audit: AuditLog, clock: Clock) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock

    def _mine(
        self,
        session: Session,
        actor: Actor,
        credential_id: str,
        *,
        cursor: bool = False,
        change: bool = False,
    ) -> Credential:
        query = select(Credential).where(
            Credential.id == credential_id, Credential.owner_id == actor.user_id
        )
        if change:  # whoever comes second sees what the first one made, and the new ETag
            query = query.with_for_update()
        row = session.scalar(query) if ID.fullmatch(credential_id) else None
        if row is None:
            if cursor:
                raise InvalidInput(BAD_CURSOR)
            raise CredentialNotFound
        return row

    def _check_etag(self, row: Credential, etag: str) -> None:
        if etag != "*" and not hmac.compare_digest(etag.encode(), _etag(row).encode()):
            raise PreconditionFailed

    def _record(
        self, session: Session, actor: Actor, row: Credential, action: str, **details: Any
    ) -> None:
        self._audit.append(
            session,
            Event(
                action,
                actor.user_id,
                row.owner_id,
                row.id,
                row.project_id,
                details={"type": row.credential_type, "version": row.version, **details},
            ),
        )

    def _infos(self, session: Session, rows: Sequence[Credential]) -> list[CredentialInfo]:
        named = named_shares(session, [row.id for row in rows])
        now = self._clock()
        return [_info(row, now, row.id in named) for row in rows]

    def _info(self, session: Session, row: Credential) -> CredentialInfo:
        return self._infos(session, [row])[0]


def checked_limit(limit: int, what: str) -> int:
    """Raises `InvalidInput` unless a page of so many can be had."""
    if not 1 <= limit <= MAX_LIST:
        raise InvalidInput({"limit": f"A page holds 1 to {MAX_LIST} {what}."})
    return limit


def named_shares(session: Session, credential_ids: Sequence[str]) -> set[str]:
    """Which of these are shared with named users."""
    return set(
        session.scalars(
            select(CredentialShare.credential_id)
            .where(CredentialShare.credential_id.in_(credential_ids))
            .distinct()
        )
    )


def status_of(row: Credential, now: datetime) -> str:
    """What is shown of a row: the switches before the expiry, that before the last test."""
    if row.blocked_at is not None:
        return "blocked"
    if row.disabled_at is not None:
        return "disabled"
    if row.expires_at is not None and row.expires_at <= now:
        return "expired"
    return row.status


def shared_word(row: Credential, named: bool) -> str:
    if row.shared_with_all:
        return "everybody"
    return "named" if named else "nobody"


def _etag(row: Credential) -> str:
    return f'"{row.id[:8]}-{row.revision}"'


def _info(row: Credential, now: datetime, named: bool) -> CredentialInfo:
    return CredentialInfo(
        id=row.id,
        label=row.label,
        credential_type=row.credential_type,
        project_id=row.project_id,
        hint=row.hint,
        base_url=row.base_url,
        expires_at=row.expires_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
        last_used_at=row.last_used_at,
        last_used_by=row.last_used_by,
        checked_at=row.checked_at,
        disabled=row.disabled_at is not None,
        blocked=row.blocked_at is not None,
        shared=shared_word(row, named),
        status=status_of(row, now),
        etag=_etag(row),
        budget=spending_of(row, now),
    )
