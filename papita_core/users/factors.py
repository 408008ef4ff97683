"""Which second factors a user has. One of them is asked for after the password."""

from __future__ import annotations

from sqlalchemy import select

from papita_core.db import Database
from papita_core.users.models import Passkey, RecoveryCode, TotpDevice

TOTP, PASSKEY, RECOVERY = "totp", "passkey", "recovery"


class FactorService:
    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, user_id: str) -> tuple[str, ...]:
        """The kinds that this user can show, of totp, passkey and recovery; empty where there is
        no second factor. Recovery codes alone are none.
        """
        with self._database.read() as session:
            totp = session.scalar(
                select(TotpDevice.user_id).where(
                    TotpDevice.user_id == user_id, TotpDevice.confirmed_at.is_not(None)
                )
            )
            passkey = session.scalar(select(Passkey.id).where(Passkey.user_id == user_id).limit(1))
            recovery = session.scalar(
                select(RecoveryCode.user_id)
                .where(RecoveryCode.user_id == user_id, RecoveryCode.used_at.is_(None))
                .limit(1)
            )
        factors = [kind for kind, found in ((TOTP, totp), (PASSKEY, passkey)) if found]
        if factors and recovery:
            factors.append(RECOVERY)
        return tuple(factors)
