"""Every row that holds something sealed, and what it is bound to.

The list of tables comes from the ORM, so that none can be forgotten: a model that is a `Sealed` and
has no entry here is an error wherever the list is asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Select, and_, bindparam, func, select, tuple_, update
from sqlalchemy.orm import Session

from papita_core.audit.service import AuditLog, Event
from papita_core.db import Base, Database, table_of
from papita_core.errors import SecretUnreadable, VaultSealed
from papita_core.users.models import TotpDevice
from papita_core.vault.binding import KIND, bound_to
from papita_core.vault.keyring import KeyRing, SealedParts, purpose_context
from papita_core.vault.models import Credential, CredentialSecret, PurposeKey, Sealed

log = logging.getLogger(__name__)

SAMPLE = 20
UNREADABLE = "unreadable"

TOTP_KIND = "totp"

_CREDENTIAL, _SECRET, _PURPOSE, _TOTP = (
    table_of(model) for model in (Credential, CredentialSecret, PurposeKey, TotpDevice)
)


def totp_context(user_id: str) -> tuple[bytes, ...]:
    """What the secret of an authenticator app is bound to: the user whose factor it is."""
    return (TOTP_KIND.encode(), user_id.encode())


@dataclass(frozen=True, slots=True)
class SealedTable:
    """One table: `query` gives its rows, `kind` and `context` what their values are sealed as.

    `context` may raise `SecretUnreadable`. `credential` gives the id of the credential that a row
    belongs to, if it belongs to one.
    """

    model: type[Base]
    query: Select[Any]
    kind: str
    context: Callable[[Any], tuple[bytes, ...]]
    credential: Callable[[Any], str | None]

    @property
    def key(self) -> Sequence[Column[Any]]:
        return list(table_of(self.model).primary_key.columns)

    @property
    def kek_kid(self) -> Column[Any]:
        return table_of(self.model).c.kek_kid

    def under(
        self, session: Session, kid: str, after: Sequence[Any] | None, limit: int
    ) -> Sequence[Any]:
        """Rows under a root key, in the order of their primary key, after the one given."""
        query = self.query.where(self.kek_kid == kid).order_by(*self.key).limit(limit)
        if after is not None:
            query = query.where(tuple_(*self.key) > tuple_(*after))
        return session.execute(query).all()

    def key_of(self, row: Any) -> tuple[Any, ...]:
        return tuple(row._mapping[column] for column in self.key)

    def name_of(self, row: Any) -> str:
        """What the log and people call a row."""
        credential = self.credential(row)
        return (
            f"credential {credential}"
            if credential
            else f"{table_of(self.model).name} {'/'.join(map(str, self.key_of(row)))}"
        )

    def swap(
        self, session: Session, changes: Sequence[tuple[tuple[Any, ...], SealedParts, SealedParts]]
    ) -> int:
        """Puts new wrappings in place of old ones, where the old ones are still there."""
        if not changes:
            return 0
        table = table_of(self.model)
        statement = (
            update(table)
            .where(
                *(column == bindparam(f"key_{column.name}") for column in self.key),
                table.c.kek_kid == bindparam("old_kid"),
                table.c.dek_wrapped == bindparam("old_wrapped"),
            )
            .values(kek_kid=bindparam("new_kid"), dek_wrapped=bindparam("new_wrapped"))
        )
        values = [
            {f"key_{column.name}": part for column, part in zip(self.key, key, strict=True)}
            | {"old_kid": old.kek_kid, "old_wrapped": old.dek_wrapped}
            | {"new_kid": new.kek_kid, "new_wrapped": new.dek_wrapped}
            for key, old, new in changes
        ]
        result: Any = session.connection().execute(statement, values)
        return int(result.rowcount)


_TABLES: dict[type[Any], SealedTable] = {
    CredentialSecret: SealedTable(
        CredentialSecret,
        select(
            _SECRET,
            _CREDENTIAL.c.owner_id,
            _CREDENTIAL.c.credential_type,
            _CREDENTIAL.c.base_url,
            _CREDENTIAL.c.origin,
            _CREDENTIAL.c.project_id,
            _CREDENTIAL.c.status,
        ).join(_CREDENTIAL, _CREDENTIAL.c.id == _SECRET.c.credential_id),
        KIND,
        lambda row: bound_to(
            row.credential_id,
            row.owner_id,
            row.credential_type,
            row.base_url,
            row.origin,
            row.version,
        ),
        lambda row: str(row.credential_id),
    ),
    PurposeKey: SealedTable(
        PurposeKey,
        select(_PURPOSE),
        "purpose-key",
        lambda row: purpose_context(row.purpose, row.kid),
        lambda row: None,
    ),
    TotpDevice: SealedTable(
        TotpDevice,
        select(_TOTP),
        TOTP_KIND,
        lambda row: totp_context(row.user_id),
        lambda row: None,
    ),
}


def sealed_tables() -> list[SealedTable]:
    """Every table with sealed values. Raises `LookupError` for a model that has no entry."""
    models: Iterator[type[Any]] = (mapper.class_ for mapper in Base.registry.mappers)
    sealed = sorted(
        (model for model in models if issubclass(model, Sealed)), key=lambda model: model.__name__
    )
    missing = [model.__name__ for model in sealed if model not in _TABLES]
    if missing:
        raise LookupError(f"sealed tables without an entry: {', '.join(missing)}")
    return [_TABLES[model] for model in sealed]


def parts_of(row: Any) -> SealedParts:
    return SealedParts(row.blob, row.dek_wrapped, row.kek_kid)


def check_sample(database: Database, ring: KeyRing, audit: AuditLog) -> list[str]:
    """Opens some rows of each table, as at every start, and gives the names of those that do not.

    Credentials that cannot be read are shown as such from then on, and those that can be read
    again are no longer. Does nothing while the ring is sealed.
    """
    if ring.sealed:
        return []
    bad: list[str] = []
    lost: list[Any] = []
    found: list[str] = []
    with database.read() as session:
        for table in sealed_tables():
            for row in _sample(session, table):
                try:
                    ring.open(table.kind, parts_of(row), table.context(row), session)
                except VaultSealed:
                    continue  # another master key opens it
                except SecretUnreadable:
                    bad.append(table.name_of(row))
                    if table.credential(row) and row.status != UNREADABLE:
                        lost.append(row)
                else:
                    if table.credential(row) and row.status == UNREADABLE:
                        found.append(row.credential_id)
    for name in bad:
        log.error("%s cannot be read", name)
    if lost or found:
        with database.write() as session:
            mark_unreadable(session, audit, lost)
            session.execute(
                update(_CREDENTIAL)
                .where(_CREDENTIAL.c.id.in_(found), _CREDENTIAL.c.status == UNREADABLE)
                .values(status="untested")
            )
    return bad


def mark_unreadable(session: Session, audit: AuditLog, rows: Sequence[Any]) -> None:
    """Shows the credentials of these rows of `credential_secrets` as unreadable, on the record."""
    for row in rows:
        changed: Any = session.execute(
            update(_CREDENTIAL)
            .where(_CREDENTIAL.c.id == row.credential_id, _CREDENTIAL.c.status != UNREADABLE)
            # A replacement that came meanwhile has a row of its own.
            .where(
                select(_SECRET.c.version)
                .where(
                    and_(
                        _SECRET.c.credential_id == row.credential_id,
                        _SECRET.c.version == row.version,
                        _SECRET.c.dek_wrapped == row.dek_wrapped,
                    )
                )
                .exists()
            )
            .values(status=UNREADABLE)
        )
        if changed.rowcount:
            audit.append(
                session,
                Event(
                    "credential.unreadable",
                    None,
                    row.owner_id,
                    row.credential_id,
                    row.project_id,
                ),
            )


def _sample(session: Session, table: SealedTable) -> Iterator[Any]:
    yield from session.execute(table.query.order_by(func.random()).limit(SAMPLE)).all()
    if table.model is CredentialSecret:
        marked = table.query.where(_CREDENTIAL.c.status == UNREADABLE).limit(5 * SAMPLE)
        yield from session.execute(marked).all()
