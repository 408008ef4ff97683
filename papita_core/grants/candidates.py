"""The credentials that a user's project may get: the user's own, and what others share.

One statement for any number of users and projects; it leaves out what cannot fit any of them, and
`papita_core.grants.choosing` picks from what it finds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    CompoundSelect,
    and_,
    null,
    or_,
    select,
    union_all,
)
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from papita_core.credential_types import types_for
from papita_core.db import AnyRow, Prepared, Within, among, table_of
from papita_core.grants.choosing import Candidate, Need
from papita_core.grants.leases import LEASE, WANTED
from papita_core.users.models import UserRow
from papita_core.vault.models import Credential, CredentialSecret, CredentialShare

_CREDENTIAL, _SECRET = table_of(Credential), table_of(CredentialSecret)
_SHARE, _OWNER = table_of(CredentialShare), table_of(UserRow)
GUEST_ROLE = "guest"
_CHOOSING: tuple[Column[Any], ...] = tuple(
    _CREDENTIAL.c[
        *("id", "owner_id", "credential_type", "project_id", "expires_at", "updated_at"),
        *("disabled_at", "blocked_at"),
        *("budget_nano", "budget_period", "budget_project_id"),
        *("spent_nano", "spent_unpriced", "spent_since"),
    ]
)


Clause = ColumnElement[bool]


def _candidates(
    users: Callable[[Column[Any]], Clause],
    projects: Callable[[Column[Any]], Clause],
    *more: Column[Any],
) -> CompoundSelect[*tuple[Any, ...]]:
    """Rows of `for_user` (None: of everybody), what choosing needs, and `more`."""
    fitting = and_(
        among(_CREDENTIAL.c.credential_type, "types"),
        or_(_CREDENTIAL.c.project_id.is_(None), projects(_CREDENTIAL.c.project_id)),
    )
    credential = _CREDENTIAL.join(_OWNER, _OWNER.c.id == _CREDENTIAL.c.owner_id)
    if any(column.table is _SECRET for column in more):
        credential = credential.outerjoin(
            _SECRET,
            and_(
                _SECRET.c.credential_id == _CREDENTIAL.c.id,
                _SECRET.c.version == _CREDENTIAL.c.version,
            ),
        )
    columns = (*_CHOOSING, _OWNER.c.disabled_at.label("owner_disabled_at"), *more)
    own = select(_CREDENTIAL.c.owner_id.label("for_user"), *columns)
    shared = select(_SHARE.c.user_id.label("for_user"), *columns)
    of_all = select(null().label("for_user"), *columns)
    return union_all(
        # Guests use what others share, and nothing that they stored when they were something else.
        own.select_from(credential).where(
            users(_CREDENTIAL.c.owner_id), _OWNER.c.role != GUEST_ROLE, fitting
        ),
        shared.select_from(
            credential.join(_SHARE, _SHARE.c.credential_id == _CREDENTIAL.c.id)
        ).where(users(_SHARE.c.user_id), fitting),
        of_all.select_from(credential).where(_CREDENTIAL.c.shared_with_all, fitting),
    )


# Of the leases that are wanted: so nobody has to know them before.
_LENT = select(LEASE.c.user_id, LEASE.c.project_id).where(WANTED).cte("lent")
# With the secret, for lending; with names, for people.
_SEALED = Prepared(
    _candidates(
        lambda user_id: user_id.in_(select(_LENT.c.user_id)),
        lambda project_id: project_id.in_(select(_LENT.c.project_id)),
        *_CREDENTIAL.c["base_url", "origin", "version", "status", "last_used_at", "last_used_by"],
        *_SECRET.c["blob", "dek_wrapped", "kek_kid"],
    )
)
_NAMED = Prepared(
    _candidates(
        lambda user_id: among(user_id, "users"),
        lambda project_id: among(project_id, "projects"),
        *(_CREDENTIAL.c.label, _CREDENTIAL.c.status, _OWNER.c.username),
    )
)


class Found:
    """What one read found, for all who were asked for."""

    def __init__(self, rows: Iterable[AnyRow]) -> None:
        self.rows: dict[str, AnyRow] = {}
        self._of_user: dict[str | None, list[Candidate]] = {}
        for row in rows:
            self.rows[row.id] = row
            self._of_user.setdefault(row.for_user, []).append(_candidate(row))

    @classmethod
    def read(cls, within: Session | Connection, needs: Collection[Need]) -> Found:
        """With names, for people."""
        if not needs:
            return cls(())
        parameters = {
            "users": {need.user_id for need in needs},
            "projects": {need.project_id for need in needs},
            "types": _types({need.asked for need in needs}),
        }
        return cls(_NAMED.rows(within, parameters))

    @classmethod
    def ask(
        cls, within: Within, hashes: Collection[str], asked: Collection[str]
    ) -> Callable[[], Found]:
        """With the secrets, for the leases of these hashes and the types that are asked for; what
        it returns is to be called once (`sqlkit.Prepared.ask`).
        """
        rows = _SEALED.ask(within, {"hashes": hashes, "types": _types(asked)})
        return lambda: cls(rows())

    def of(self, user_id: str) -> list[Candidate]:
        """The candidates of one user. An own one that is shared with everybody comes twice."""
        return self._of_user.get(user_id, []) + self._of_user.get(None, [])


def _types(asked: Collection[str]) -> list[str]:
    return sorted({kind.id for word in asked for kind in types_for(word)})


def _candidate(row: AnyRow) -> Candidate:
    return Candidate(
        row.id,
        row.owner_id,
        row.credential_type,
        row.project_id,
        row.expires_at,
        row.updated_at,
        disabled=row.disabled_at is not None,
        blocked=row.blocked_at is not None,
        owner_disabled=row.owner_disabled_at is not None,
    )
