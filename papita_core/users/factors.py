"""Which second factors a user has, who may change them, and when one may go.

One of them is asked for after the password. Recovery codes alone are none: they stand in for a
factor that is lost, and go with the last one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, exists, func, select
from sqlalchemy.orm import Session

from papita_core.actors import Actor
from papita_core.audit.service import AuditLog, Event
from papita_core.clock import Clock, utc_now
from papita_core.db import Database
from papita_core.errors import FactorRefused, Forbidden, LastFactor, NotFound, Unauthenticated
from papita_core.users.events import note
from papita_core.users.models import (
    OidcIdentity,
    Passkey,
    PolicyRow,
    RecoveryCode,
    TotpDevice,
    UserRow,
)
from papita_core.users.policies import SECOND_FACTOR, requires_second_factor
from papita_core.users.service import UserService, normalise_username

TOTP, PASSKEY, RECOVERY = "totp", "passkey", "recovery"

_LAST_WAY_IN = (
    "You have no password: this passkey is your only way in. Add another one, or set a password,"
    " before you remove it."
)
_SHOW_IT_FIRST = "Show the second factor that you have before you add another one."


@dataclass(frozen=True, slots=True)
class Factors:
    """What a user has. `required`: the policy asks it of them. `codes_left`: recovery codes that
    were not used, of `codes_made`. `password`: there is one.
    """

    totp_since: datetime | None
    passkeys: int
    codes_left: int
    codes_made: int
    required: bool
    password: bool

    @property
    def on(self) -> bool:
        return self.totp_since is not None or self.passkeys > 0


class FactorService:
    def __init__(
        self, database: Database, users: UserService, audit: AuditLog, clock: Clock = utc_now
    ) -> None:
        self._database = database
        self._users = users
        self._audit = audit
        self._clock = clock

    def of(self, user_id: str) -> tuple[str, ...]:
        """The kinds that this user can show, of totp, passkey and recovery; empty where there is
        no second factor.
        """
        with self._database.read() as session:
            return kinds(session, user_id)

    def overview(self, actor: Actor) -> Factors:
        """What the actor has."""
        mine = actor.user_id
        with self._database.read() as session:
            since = session.scalar(
                select(TotpDevice.confirmed_at).where(
                    TotpDevice.user_id == mine, TotpDevice.confirmed_at.is_not(None)
                )
            )
            passkeys = session.scalar(
                select(func.count()).select_from(Passkey).where(Passkey.user_id == mine)
            )
            made, used = session.execute(
                select(func.count(), func.count(RecoveryCode.used_at)).where(
                    RecoveryCode.user_id == mine
                )
            ).one()
            required = _required(session, actor.role)
            hashed = session.scalar(select(UserRow.password_hash).where(UserRow.id == mine))
        return Factors(since, passkeys or 0, made - used, made, required, bool(hashed))

    def reset(self, actor: Actor, username: str) -> None:
        """For somebody who lost everything: takes all factors and recovery codes away and ends all
        sessions. Raises `Forbidden`, `ReauthenticationRequired`, `NotFound` and `VaultSealed`.
        """
        actor.require("users:manage")
        actor.require_proof(self._clock())
        with self._database.write() as session:
            user_id = session.scalar(
                select(UserRow.id)
                .where(UserRow.username == normalise_username(username))
                .with_for_update()
            )
            if user_id is None:
                raise NotFound("There is no user of this name.")
            had = kinds(session, user_id)
            for table in (TotpDevice, Passkey, RecoveryCode):
                session.execute(delete(table).where(table.user_id == user_id))
            self._users.end_everything(session, user_id)
            self._audit.append(
                session,
                Event(
                    "factor.reset",
                    actor.user_id,
                    user_id,
                    user_id,
                    details={"factors": list(had)} if had else {},
                ),
            )


def kinds(session: Session, user_id: str) -> tuple[str, ...]:
    """As `FactorService.of`, in the caller's transaction."""
    totp, passkey, recovery = session.execute(
        select(
            exists().where(TotpDevice.user_id == user_id, TotpDevice.confirmed_at.is_not(None)),
            exists().where(Passkey.user_id == user_id),
            exists().where(RecoveryCode.user_id == user_id, RecoveryCode.used_at.is_(None)),
        )
    ).one()
    factors = [kind for kind, found in ((TOTP, totp), (PASSKEY, passkey)) if found]
    if factors and recovery:
        factors.append(RECOVERY)
    return tuple(factors)


def may_change(session: Session, actor: Actor, now: datetime) -> UserRow:
    """The row of the actor, locked: of two changes of one user's factors each sees the other.

    Raises `Forbidden`, `ReauthenticationRequired` and `Unauthenticated`. Whoever still owes the
    second factor and has one may not add another one: a password alone would be enough then.
    """
    actor.require("factors")
    actor.require_proof(now)
    row = locked(session, actor.user_id)
    if row is None:
        raise Unauthenticated
    if actor.restricted and kinds(session, row.id):
        raise Forbidden(_SHOW_IT_FIRST)
    return row


def locked(session: Session, user_id: str) -> UserRow | None:
    """The row of a user who may sign in, locked until the transaction ends."""
    row = session.scalar(select(UserRow).where(UserRow.id == user_id).with_for_update())
    if row is None or row.disabled_at is not None or row.awaits_approval_since is not None:
        return None
    return row


def after_removal(session: Session, row: UserRow) -> None:
    """Looks at what is left once a factor is taken away, and takes recovery codes that stand in for
    nothing along. Raises `LastFactor`, so that the caller's transaction changes nothing.
    """
    left = kinds(session, row.id)
    if not row.password_hash and PASSKEY not in left:
        elsewhere = session.scalar(select(exists().where(OidcIdentity.user_id == row.id)))
        if not elsewhere:
            raise LastFactor(_LAST_WAY_IN)
    if left:
        return
    if _required(session, row.role):
        raise LastFactor
    session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == row.id))


def refuse(
    audit: AuditLog,
    session: Session,
    user_id: str,
    factor: str,
    *,
    address: str = "",
    subject_id: str | None = None,
) -> None:
    """Puts it on the record that a factor was not accepted. The caller raises after the commit."""
    details = {"factor": factor} | ({"address": address} if address else {})
    note(
        audit,
        session,
        Event(
            "factor.refused",
            user_id,
            user_id,
            subject_id,
            outcome=FactorRefused.code,
            details=details,
        ),
    )


def _required(session: Session, role: str) -> bool:
    policy = session.scalar(select(PolicyRow.value).where(PolicyRow.name == SECOND_FACTOR))
    return requires_second_factor(policy, role)
