"""Checking a name and a password.

A wrong name, a wrong password, a disabled account and one that has no password get the same words
and cost the same work, in the database, too. Too many failures are refused for minutes; an owner at
an address of before does not notice what strangers try.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, exists, select

from papita_core.audit.service import AuditLog, Event
from papita_core.db import Database
from papita_core.errors import ApprovalPending, SignInRefused
from papita_core.users.events import note
from papita_core.users.limits import Limit, LimitService, Try, network_of
from papita_core.users.models import SessionRow, UserRow
from papita_core.users.passwords import dummy_hash, verify_password
from papita_core.users.service import EMAIL, USERNAME, User, email_key, normalise_username, to_user

# From one address at one account: all that its owner meets at an address of before.
AT_HOME = Limit("sign-in.account-and-address", 5, timedelta(minutes=5))
# From one address at any account.
FROM_ADDRESS = Limit("sign-in.address", 30, timedelta(minutes=5))
# At one account, and at all together, from addresses at which the owner never was.
BY_STRANGERS = Limit("sign-in.account", 20, timedelta(minutes=10))
OVERALL = Limit("sign-in.overall", 300, timedelta(minutes=1))


class SignInService:
    def __init__(
        self,
        database: Database,
        limits: LimitService,
        audit: AuditLog,
    ) -> None:
        self._database = database
        self._limits = limits
        self._audit = audit
        self._dummy = dummy_hash()

    def authenticate(
        self, username: str, password: str, *, address: str = "", purpose: str = "sign-in"
    ) -> User:
        """The user of this name or e-mail. `purpose` is for the audit log.

        Raises `SignInRefused` and `TooManyAttempts`; `ApprovalPending` only with the password that
        is right.
        """
        name = normalise_username(username)
        row, at_home = self._look_up(name, network_of(address))
        user_id = None if row is None else row.id
        # By what was typed: one count for name and e-mail would tell whether they belong together.
        tries = _tries(name, user_id, address, at_home=at_home)
        self._limits.hit(*tries)
        encoded = (row is not None and row.password_hash) or self._dummy
        right = verify_password(password, encoded)
        waits = row is not None and row.awaits_approval_since is not None
        if not right or row is None or (row.disabled_at is not None and not waits):
            self._failed(user_id, address, purpose, "refused")
            raise SignInRefused
        self._limits.forgive(*tries)
        if waits:
            self._failed(user_id, address, purpose, "awaits-approval")
            raise ApprovalPending
        return to_user(row)

    def _look_up(self, name: str, network: str) -> tuple[Any, bool]:
        """The user, and whether they have signed in from this network before. Two queries, whether
        or not there is anybody.
        """
        with self._database.read() as session:
            row = session.execute(select(*_COLUMNS).where(_named(name))).one_or_none()
            known = exists().where(
                SessionRow.user_id == ("" if row is None else row.id),
                SessionRow.network == network,
            )
            at_home = bool(session.scalar(select(known)))
        return row, at_home

    def _failed(self, user_id: str | None, address: str, purpose: str, outcome: str) -> None:
        details = {"address": address[:64], "purpose": purpose}
        with self._database.write() as session:
            note(
                self._audit,
                session,
                Event("sign-in.failed", owner_id=user_id, outcome=outcome, details=details),
            )


# Not the mapped class, which takes the longer to build if there is somebody.
_COLUMNS = (
    UserRow.id,
    UserRow.username,
    UserRow.display_name,
    UserRow.email,
    UserRow.role,
    UserRow.password_hash,
    UserRow.disabled_at,
    UserRow.awaits_approval_since,
)


def _named(name: str) -> ColumnElement[bool]:
    """Whose name or e-mail this is; text that nobody can have is asked for as well, as nothing."""
    if "@" in name:
        key = email_key(name) or ""
        usable = len(key) <= 320 and key.isprintable() and EMAIL.fullmatch(key)
        return UserRow.email_key == (key if usable else "")
    return UserRow.username == (name if USERNAME.fullmatch(name) else "")


def _tries(name: str, user_id: str | None, address: str, *, at_home: bool) -> Sequence[Try]:
    network = network_of(address)
    narrow = Try(AT_HOME, f"{name}|{network}", user_id, address)
    if at_home:
        return (narrow,)
    return (
        narrow,
        Try(FROM_ADDRESS, network, address=address),
        Try(BY_STRANGERS, name, user_id),
        Try(OVERALL, ""),
    )
