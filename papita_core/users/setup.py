"""The first administrator: made with a one-time code that the terminal shows.

A code lives for an hour, serves once, and only while there is no user at all.
"""

from __future__ import annotations

import secrets
from datetime import timedelta

from sqlalchemy import delete, select

from papita_core.audit.service import AuditLog
from papita_core.clock import Clock, utc_now
from papita_core.db import Database
from papita_core.errors import SetupRefused
from papita_core.users.models import SetupCodeRow, UserRow
from papita_core.users.service import NewUser, User, UserService, checked_hash
from papita_core.users.tokens import token_hash

CODE_LIFE = timedelta(hours=1)
ALPHABET = "ABCDEFGHJKMNPQRSTVWXYZ23456789"  # nothing that looks like something else


class SetupService:
    def __init__(
        self, database: Database, users: UserService, audit: AuditLog, clock: Clock = utc_now
    ) -> None:
        self._database = database
        self._users = users
        self._audit = audit
        self._clock = clock

    def pending(self) -> bool:
        """Whether there is no user yet."""
        return not self._users.anybody()

    def issue_code(self) -> str:
        """A fresh code; earlier ones stop working. 80 bits, in groups of four."""
        code = "-".join("".join(secrets.choice(ALPHABET) for _ in range(4)) for _ in range(4))
        now = self._clock()
        with self._database.write() as session:
            self._database.one_at_a_time(session)
            session.execute(delete(SetupCodeRow))
            session.add(
                SetupCodeRow(
                    code_hash=token_hash(_plain(code)),
                    created_at=now,
                    expires_at=now + CODE_LIFE,
                )
            )
        return code

    def complete(self, *, code: str, username: str, password: str, display_name: str = "") -> User:
        """Makes the first administrator. Raises `SetupRefused` and `InvalidInput`."""
        new = NewUser(username, password, display_name, role="administrator")
        self._check(code)
        encoded = checked_hash(new)
        with self._database.write() as session:
            # Once more inside the transaction: of two that race, one wins.
            self._database.one_at_a_time(session)
            used = session.scalar(
                delete(SetupCodeRow)
                .where(
                    SetupCodeRow.code_hash == token_hash(_plain(code)),
                    SetupCodeRow.expires_at > self._clock(),
                )
                .returning(SetupCodeRow.code_hash)
            )
            if used is None or session.scalar(select(UserRow.id).limit(1)):
                raise SetupRefused
            return self._users.add(session, new, encoded, actor_id="setup")

    def _check(self, code: str) -> None:
        with self._database.read() as session:
            row = session.get(SetupCodeRow, token_hash(_plain(code)))
        if row is None or row.expires_at <= self._clock():
            raise SetupRefused


def _plain(code: str) -> str:
    return "".join(character for character in code.upper() if character.isalnum())
