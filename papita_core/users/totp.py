"""Codes of an authenticator app (RFC 6238): six digits, a new one every thirty seconds.

A code serves once, also where two tabs send it in the same moment. One step of drift to either side
is allowed for. The last step that was used only ever rises: after a server's clock was set back, no
code is taken a second time, and the app is refused until the clock has caught up. The secret is
sealed by the vault; while that is sealed no code can be checked, and `VaultSealed` says so.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pyotp
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from papita_core.actors import Actor
from papita_core.audit.service import AuditLog, Event
from papita_core.clock import Clock, utc_now
from papita_core.db import Database, new_id
from papita_core.errors import FactorRefused, NotFound
from papita_core.users.factors import TOTP, after_removal, locked, may_change, refuse
from papita_core.users.limits import Limit, LimitService, Try
from papita_core.users.models import TotpDevice
from papita_core.vault.keyring import KeyRing
from papita_core.vault.sealed_rows import TOTP_KIND, parts_of, totp_context

ISSUER = "Papita"
STEP = 30  # seconds
DRIFT = (0, -1, 1)  # steps
TRIES = Limit("totp.account", 5, timedelta(minutes=15))
PENDING_LIVES = timedelta(minutes=30)

_NOT_BEGUN = "This took too long. Begin again with a new QR code."


@dataclass(frozen=True, slots=True)
class PendingTotp:
    """What the authenticator app needs: `uri` for the QR code, `secret` (base32) to type in."""

    uri: str = field(repr=False)
    secret: str = field(repr=False)


class TotpService:
    def __init__(
        self,
        database: Database,
        ring: KeyRing,
        audit: AuditLog,
        limits: LimitService,
        clock: Clock = utc_now,
    ) -> None:
        self._database = database
        self._ring = ring
        self._audit = audit
        self._limits = limits
        self._clock = clock

    def begin(self, actor: Actor) -> PendingTotp:
        """A new secret, which counts once `confirm` has seen a code of it. An app that is in use
        stays in use until then. Raises `Forbidden`, `ReauthenticationRequired`, `VaultSealed`.
        """
        now, secret = self._clock(), pyotp.random_base32()
        with self._database.write() as session:
            user = may_change(session, actor, now)
            session.execute(
                delete(TotpDevice).where(
                    TotpDevice.user_id == user.id, TotpDevice.confirmed_at.is_(None)
                )
            )
            parts = self._ring.seal(session, TOTP_KIND, secret, totp_context(user.id))
            session.add(
                TotpDevice(
                    id=new_id(),
                    user_id=user.id,
                    created_at=now,
                    confirmed_at=None,
                    last_step=0,
                    blob=parts.blob,
                    dek_wrapped=parts.dek_wrapped,
                    kek_kid=parts.kek_kid,
                )
            )
            return _pending(secret, user.username)

    def pending(self, actor: Actor) -> PendingTotp:
        """What `begin` gave, while it waits for a code. Raises `NotFound`, and as `begin`."""
        actor.require("factors")
        now = self._clock()
        actor.require_proof(now)
        with self._database.read() as session:
            row = self._waiting(session, actor.user_id, now)
            return _pending(self._secret(row, session), actor.username)

    def confirm(self, actor: Actor, code: str) -> None:
        """Takes the new app into use. Raises `FactorRefused` where the code is not its own,
        `NotFound` where none waits, and as `begin`.
        """
        now = self._clock()
        with self._database.write() as session:
            user = may_change(session, actor, now)
            row = self._waiting(session, user.id, now)
            step = _step_of(code, self._secret(row, session), now)
            if step is None:
                raise FactorRefused(
                    "This code is not right. Check that the clock of your device is, and type the"
                    " code that the app shows now."
                )
            replaced: Any = session.execute(
                delete(TotpDevice).where(
                    TotpDevice.user_id == user.id, TotpDevice.confirmed_at.is_not(None)
                )
            )
            row.confirmed_at, row.last_step = now, step
            details: dict[str, Any] = {"factor": TOTP}
            if replaced.rowcount:
                details["replaced"] = True
            self._audit.append(
                session, Event("factor.added", user.id, user.id, row.id, details=details)
            )

    def verify(self, user_id: str, code: str, *, address: str = "") -> None:
        """Returns where the code is right and was not used. Raises `FactorRefused` in the same
        words for wrong and used codes and for users without an app or without access,
        `TooManyAttempts`, and `VaultSealed` where codes cannot be checked.
        """
        attempt = Try(TRIES, user_id, user_id=user_id, address=address)
        self._limits.hit(attempt)
        try:
            accepted = self._verified(user_id, code, address)
        except BaseException:
            self._limits.forgive(attempt)  # nothing was learnt about the code
            raise
        if not accepted:
            raise FactorRefused
        self._limits.forgive(attempt)

    def _verified(self, user_id: str, code: str, address: str) -> bool:
        now = self._clock()
        with self._database.write() as session:
            user = locked(session, user_id)
            row = session.scalar(
                select(TotpDevice).where(
                    TotpDevice.user_id == user_id, TotpDevice.confirmed_at.is_not(None)
                )
            )
            if user is None or row is None:
                return False
            step = _step_of(code, self._secret(row, session), now)
            if step is not None:
                used: Any = session.execute(
                    update(TotpDevice)
                    .where(TotpDevice.id == row.id, TotpDevice.last_step < step)
                    .values(last_step=step),
                    execution_options={"synchronize_session": False},
                )
                if used.rowcount:
                    return True
            refuse(self._audit, session, user_id, TOTP, address=address)
            return False

    def remove(self, actor: Actor) -> None:
        """Switches it off. Raises `NotFound`, `LastFactor`, `Forbidden`,
        `ReauthenticationRequired` and `VaultSealed`.
        """
        with self._database.write() as session:
            user = may_change(session, actor, self._clock())
            gone = session.scalars(
                delete(TotpDevice)
                .where(TotpDevice.user_id == user.id)
                .returning(TotpDevice.id, TotpDevice.confirmed_at),
            ).all()
            if not gone:
                raise NotFound("There is no authenticator app.")
            after_removal(session, user)
            self._audit.append(
                session,
                Event("factor.removed", user.id, user.id, gone[0], details={"factor": TOTP}),
            )

    def _waiting(self, session: Session, user_id: str, now: datetime) -> TotpDevice:
        row = session.scalar(
            select(TotpDevice).where(
                TotpDevice.user_id == user_id,
                TotpDevice.confirmed_at.is_(None),
                TotpDevice.created_at > now - PENDING_LIVES,
            )
        )
        if row is None:
            raise NotFound(_NOT_BEGUN)
        return row

    def _secret(self, row: TotpDevice, session: Session) -> str:
        value = self._ring.open(TOTP_KIND, parts_of(row), totp_context(row.user_id), session)
        return str(value)


def _pending(secret: str, username: str) -> PendingTotp:
    uri = pyotp.TOTP(secret).provisioning_uri(name=username, issuer_name=ISSUER)
    return PendingTotp(uri, secret)


def _step_of(code: str, secret: str, now: datetime) -> int | None:
    """The time step that a code belongs to, if it is one of those that count now.

    All of them are looked at, whichever fits, so that the time tells nothing.
    """
    typed = "".join(code.split()).encode("utf-8", "surrogatepass")
    totp, current = pyotp.TOTP(secret), int(now.timestamp()) // STEP
    found = None
    for drift in DRIFT:
        fits = hmac.compare_digest(totp.generate_otp(current + drift).encode(), typed)
        if fits and found is None:
            found = current + drift
    return found
