"""Sharing: an owner lets others use a credential through projects; nobody of them ever sees it.

An administrator sees everybody's credentials without hint and address, and can block each.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, exists, or_, select, tuple_
from sqlalchemy.orm import Session

from papita_core.actors import Actor
from papita_core.errors import CredentialNotFound, InvalidInput
from papita_core.users.models import UserRow
from papita_core.users.service import USERNAME, normalise_username
from papita_core.vault.models import Credential, CredentialShare
from papita_core.vault.own import (
    BAD_CURSOR,
    ID,
    OwnCredentials,
    checked_limit,
    named_shares,
    shared_word,
    status_of,
)
from papita_core.vault.records import (
    AdminCredential,
    CredentialInfo,
    Page,
    SharedCredential,
    Shares,
)

MAX_NAMES = 200


class Sharing(OwnCredentials):
    def share(
        self,
        actor: Actor,
        credential_id: str,
        *,
        everybody: bool,
        usernames: Sequence[str],
        etag: str,
    ) -> CredentialInfo:
        """Says anew who may use an own credential; nobody at all ends the sharing.

        Raises `InvalidInput` (a name that no user has) and `PreconditionFailed`.
        """
        actor.require("credentials:share")
        if len(usernames) > MAX_NAMES:
            raise InvalidInput({"usernames": f"Name at most {MAX_NAMES} users, or share with all."})
        names = {normalise_username(name) for name in usernames}
        with self._database.write() as session:
            row = self._mine(session, actor, credential_id, change=True)
            self._check_etag(row, etag)
            users = _ids_of(session, names) - {actor.user_id}
            row.shared_with_all = everybody
            row.revision += 1
            session.execute(delete(CredentialShare).where(CredentialShare.credential_id == row.id))
            session.add_all(
                CredentialShare(credential_id=row.id, user_id=user_id, created_at=self._clock())
                for user_id in sorted(users)
            )
            session.flush()
            if everybody or users:
                self._record(
                    session,
                    actor,
                    row,
                    "credential.shared",
                    everybody=everybody,
                    users=sorted(users),
                )
            else:
                self._record(session, actor, row, "credential.unshared")
            return self._info(session, row)

    def shares(self, actor: Actor, credential_id: str) -> Shares:
        """Who may use an own credential; the names in their order."""
        actor.require("credentials:share")
        with self._database.read() as session:
            row = self._mine(session, actor, credential_id)
            names = session.scalars(
                select(UserRow.username)
                .join(CredentialShare, CredentialShare.user_id == UserRow.id)
                .where(CredentialShare.credential_id == row.id)
                .order_by(UserRow.username)
            ).all()
            return Shares(row.shared_with_all, tuple(names))

    def shared_with_me(self, actor: Actor) -> list[SharedCredential]:
        """What others let the actor use, oldest first; also what cannot be used just now."""
        actor.require("projects:launch")
        query = (
            select(Credential, UserRow.username)
            .join(UserRow, UserRow.id == Credential.owner_id)
            .where(
                Credential.owner_id != actor.user_id,
                UserRow.disabled_at.is_(None),
                or_(
                    Credential.shared_with_all,
                    exists().where(
                        CredentialShare.credential_id == Credential.id,
                        CredentialShare.user_id == actor.user_id,
                    ),
                ),
            )
            .order_by(Credential.created_at, Credential.id)
        )
        now = self._clock()
        with self._database.read() as session:
            return [_shared(row, owner_name, now) for row, owner_name in session.execute(query)]

    # --- administrators ---

    def everyones(
        self, actor: Actor, *, cursor: str | None = None, limit: int = 50
    ) -> Page[AdminCredential]:
        """All users' credentials, oldest first, with nothing of their secrets."""
        actor.require("vault:manage")
        checked_limit(limit, "credentials")
        query = (
            select(Credential, UserRow.username)
            .join(UserRow, UserRow.id == Credential.owner_id)
            .order_by(Credential.created_at, Credential.id)
            .limit(limit + 1)
        )
        now = self._clock()
        with self._database.read() as session:
            if cursor is not None:
                last = session.get(Credential, cursor) if ID.fullmatch(cursor) else None
                if last is None:
                    raise InvalidInput(BAD_CURSOR)
                query = query.where(
                    tuple_(Credential.created_at, Credential.id) > (last.created_at, last.id)
                )
            rows = session.execute(query).all()
            named = named_shares(session, [row.id for row, _ in rows])
        items = [_for_admin(row, name, now, row.id in named) for row, name in rows[:limit]]
        return Page(items, items[-1].id if len(rows) > limit else None)

    def set_blocked(self, actor: Actor, credential_id: str, blocked: bool) -> None:
        """An administrator's switch over anybody's credential; no project gets a blocked one."""
        actor.require("vault:manage")
        with self._database.write() as session:
            row = (
                session.get(Credential, credential_id, with_for_update=True)
                if ID.fullmatch(credential_id)
                else None
            )
            if row is None:
                raise CredentialNotFound("There is no such credential.")
            if blocked == (row.blocked_at is not None):
                return
            row.blocked_at = self._clock() if blocked else None
            action = "credential.blocked" if blocked else "credential.unblocked"
            self._record(session, actor, row, action)


def _ids_of(session: Session, names: set[str]) -> set[str]:
    possible = [name for name in names if USERNAME.fullmatch(name)]
    query = select(UserRow.username, UserRow.id).where(UserRow.username.in_(possible))
    ids = dict(session.execute(query).all())
    if names - ids.keys():
        raise InvalidInput({"usernames": "There is no user of one of these names. Check them."})
    return set(ids.values())


def _shared(row: Credential, owner_name: str, now: datetime) -> SharedCredential:
    return SharedCredential(
        id=row.id,
        label=row.label,
        credential_type=row.credential_type,
        project_id=row.project_id,
        origin=row.origin,
        owner_name=owner_name,
        status=status_of(row, now),
        expires_at=row.expires_at,
    )


def _for_admin(row: Credential, owner_name: str, now: datetime, named: bool) -> AdminCredential:
    return AdminCredential(
        id=row.id,
        label=row.label,
        credential_type=row.credential_type,
        owner_name=owner_name,
        project_id=row.project_id,
        status=status_of(row, now),
        blocked=row.blocked_at is not None,
        shared=shared_word(row, named),
        last_used_at=row.last_used_at,
    )
