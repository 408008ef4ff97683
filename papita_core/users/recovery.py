"""Ten codes that each serve once in place of a second factor that is lost.

Random strings of eighty bits, of which the database has hashes alone. They are shown when they are
made and never again; whoever makes new ones puts all earlier ones out of force.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, func, select, update

from papita_core.actors import Actor
from papita_core.audit.service import AuditLog, Event
from papita_core.clock import Clock, utc_now
from papita_core.db import Database
from papita_core.errors import Conflict, FactorRefused
from papita_core.users.events import note
from papita_core.users.factors import RECOVERY, kinds, locked, may_change, refuse
from papita_core.users.limits import Limit, LimitService, Try
from papita_core.users.models import RecoveryCode
from papita_core.users.tokens import token_hash

HOW_MANY = 10
FEW = 3
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: five bits each
MEANT = str.maketrans("OIL", "011")
TRIES = Limit("recovery.account", 5, timedelta(minutes=15))


class RecoveryService:
    def __init__(
        self,
        database: Database,
        audit: AuditLog,
        limits: LimitService,
        clock: Clock = utc_now,
    ) -> None:
        self._database = database
        self._audit = audit
        self._limits = limits
        self._clock = clock

    def renew(self, actor: Actor) -> tuple[str, ...]:
        """Ten new codes, in groups of four; earlier ones stop working. Raises `Conflict` where
        there is no second factor, `Forbidden`, `ReauthenticationRequired` and `VaultSealed`.
        """
        now, codes = self._clock(), tuple(_new_code() for _ in range(HOW_MANY))
        with self._database.write() as session:
            user = may_change(session, actor, now)
            if not kinds(session, user.id):
                raise Conflict(
                    "Recovery codes stand in for a second factor. Add a passkey or an"
                    " authenticator app first."
                )
            session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user.id))
            session.add_all(
                RecoveryCode(
                    user_id=user.id, code_hash=_hash(user.id, code), created_at=now, used_at=None
                )
                for code in codes
            )
            session.flush()
            self._audit.append(session, Event("recovery.renewed", user.id, user.id, user.id))
        return codes

    def use(self, user_id: str, code: str, *, address: str = "") -> int:
        """Uses a code up; how many are left. Works while the vault is sealed. Raises
        `FactorRefused` in the same words for wrong and used codes and for users without access, and
        `TooManyAttempts`.
        """
        attempt = Try(TRIES, user_id, user_id=user_id, address=address)
        self._limits.hit(attempt)
        left = self._used(user_id, code, address)
        if left is None:
            raise FactorRefused(
                "This recovery code is not right, or it was used already. Take another one."
            )
        self._limits.forgive(attempt)
        return left

    def _used(self, user_id: str, code: str, address: str) -> int | None:
        with self._database.write() as session:
            user = locked(session, user_id)
            if user is None:
                return None
            # Codes without a factor stand in for nothing; `kinds` has them only beside one.
            if RECOVERY in kinds(session, user_id):
                used: Any = session.execute(
                    update(RecoveryCode)
                    .where(
                        RecoveryCode.user_id == user_id,
                        RecoveryCode.code_hash == _hash(user_id, code),
                        RecoveryCode.used_at.is_(None),
                    )
                    .values(used_at=self._clock()),
                    execution_options={"synchronize_session": False},
                )
                if used.rowcount:
                    left = session.scalar(
                        select(func.count())
                        .select_from(RecoveryCode)
                        .where(RecoveryCode.user_id == user_id, RecoveryCode.used_at.is_(None))
                    )
                    note(
                        self._audit,
                        session,
                        Event(
                            "recovery.used",
                            user_id,
                            user_id,
                            user_id,
                            details={"left": left or 0} | ({"address": address} if address else {}),
                        ),
                    )
                    return left or 0
            refuse(self._audit, session, user_id, RECOVERY, address=address)
            return None


def _new_code() -> str:
    return "-".join("".join(secrets.choice(ALPHABET) for _ in range(4)) for _ in range(4))


def _hash(user_id: str, code: str) -> str:
    """Bound to its user; typed in any case, with or without dashes, O for 0 and I or L for 1."""
    plain = "".join(sign for sign in code.upper() if sign.isalnum()).translate(MEANT)
    return token_hash(f"recovery:{user_id}:{plain}")
