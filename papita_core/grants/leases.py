"""What a lease rests on, and whether all of that still holds.

A lease rests on its own row, on a user who is not disabled, on a project that is switched on, and
either on a grant and a live sign-in or on a live personal access token.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, select

from papita_core.db import AnyRow, among, table_of
from papita_core.errors import ConsentRequired, PapitaError, ProjectDisabled, Unauthenticated
from papita_core.grants.choosing import Need
from papita_core.grants.models import GrantRow, LeaseRow
from papita_core.projects.models import ProjectState
from papita_core.users.models import AccessTokenRow, SessionRow, UserRow

# Plain tables: a loan is too frequent for what the mapper does around each statement.
LEASE, _USER, _GRANT = table_of(LeaseRow), table_of(UserRow), table_of(GrantRow)
_SESSION, _TOKEN = table_of(SessionRow), table_of(AccessTokenRow)
_PROJECT = table_of(ProjectState)

LEASES: Select[*tuple[Any, ...]] = (
    select(
        *LEASE.c["id", "token_hash", "user_id", "project_id", "credential_type"],
        *LEASE.c["grant_id", "session_id", "access_token_id", "expires_at", "revoked_at"],
        _USER.c.username,
        _USER.c.disabled_at,
        _GRANT.c.revoked_at.label("grant_revoked_at"),
        _PROJECT.c.disabled_at.label("project_disabled_at"),
        _SESSION.c.ended_at.label("session_ended_at"),
        _SESSION.c.expires_at.label("session_expires_at"),
        _SESSION.c.last_seen_at.label("session_seen_at"),
        _TOKEN.c.revoked_at.label("token_revoked_at"),
        _TOKEN.c.expires_at.label("token_expires_at"),
    )
    .select_from(LEASE)
    .join(_USER, _USER.c.id == LEASE.c.user_id)
    .outerjoin(_GRANT, _GRANT.c.id == LEASE.c.grant_id)
    .outerjoin(_PROJECT, _PROJECT.c.project_id == LEASE.c.project_id)
    .outerjoin(_SESSION, _SESSION.c.id == LEASE.c.session_id)
    .outerjoin(_TOKEN, _TOKEN.c.id == LEASE.c.access_token_id)
)
# Those whose token has one of the `hashes`.
WANTED = among(LEASE.c.token_hash, "hashes")


def need_of(lease: AnyRow) -> Need:
    """What a lease asks for."""
    return Need(lease.user_id, lease.project_id, lease.credential_type)


def lost(lease: AnyRow, now: datetime, idle: timedelta) -> PapitaError | None:
    """Why nothing is lent any more on a row of `LEASES`, apart from its own five minutes.

    `ProjectDisabled`, `ConsentRequired` or `Unauthenticated`; None where all of it holds.
    """
    if lease.project_disabled_at is not None:
        return ProjectDisabled()
    if lease.grant_id is not None and lease.grant_revoked_at is not None:
        return ConsentRequired()
    if lease.revoked_at is not None or not signed_in(lease, now, idle):
        return Unauthenticated()
    return None


def signed_in(lease: AnyRow, now: datetime, idle: timedelta) -> bool:
    """Whether the user, and the sign-in or access token that the lease rests on, are live."""
    if lease.disabled_at is not None:
        return False
    if lease.session_id is not None:
        return (
            lease.session_ended_at is None
            and lease.session_expires_at is not None
            and bool(lease.session_expires_at > now)
            and bool(lease.session_seen_at > now - idle)
        )
    return (
        lease.access_token_id is not None
        and lease.token_revoked_at is None
        and (lease.token_expires_at is None or bool(lease.token_expires_at > now))
    )
