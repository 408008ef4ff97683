"""A sign-in that is under way at a provider.

`state` goes to the provider and comes back once. The browser that began it holds a secret in a
cookie; nonce, code verifier and the name of the row are made from both by HMAC. So the database
holds nothing that is worth reading, an answer that reaches another browser finds no row, and a code
that was smuggled in finds no verifier.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import delete
from sqlalchemy.orm import Session

from papita_core.clock import Clock
from papita_core.db import Database
from papita_core.users.models import OidcAttempt
from papita_core.users.oidc.errors import Refused

ATTEMPT_LIFE = timedelta(minutes=10)
SECRET_BYTES = 32
MAX_STATE = 100

Purpose = Literal["sign-in", "link", "proof"]
PURPOSES: tuple[Purpose, ...] = ("sign-in", "link", "proof")
LOGOUT = "logout"  # a row of this kind only remembers that a logout token was used


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was begun. `session_id` and `user_id` are those of whoever links or proves."""

    provider: str
    purpose: Purpose
    user_id: str | None
    session_id: str | None
    next_page: str
    remember: bool
    begun_at: datetime
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class BrowserSecret:
    """What the cookie holds. `of` takes a cookie's value, or makes a fresh one."""

    value: str = field(repr=False)

    @classmethod
    def fresh(cls) -> BrowserSecret:
        return cls(_text(secrets.token_bytes(SECRET_BYTES)))

    @classmethod
    def of(cls, cookie: str | None) -> BrowserSecret | None:
        """None where the cookie is not one of ours."""
        try:
            known = cookie is not None and len(_bytes(cookie)) == SECRET_BYTES
        except ValueError:
            known = False
        return cls(cookie) if known and cookie is not None else None

    def derived(self, what: str, state: str) -> str:
        """Fresh for each use and each state; 43 characters of base64url."""
        message = f"{what}\0{state}".encode()
        return _text(hmac.new(_bytes(self.value), message, hashlib.sha256).digest())


class AttemptService:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def begin(
        self,
        provider: str,
        purpose: Purpose,
        secret: BrowserSecret,
        *,
        next_page: str,
        remember: bool,
        user_id: str | None,
        session_id: str | None,
    ) -> tuple[str, Attempt]:
        """The state of a new attempt, and the attempt."""
        state, now = _text(secrets.token_bytes(32)), self._clock()
        with self._database.write() as session:
            session.add(
                OidcAttempt(
                    state_hash=_row(secret, state),
                    provider=provider,
                    purpose=purpose,
                    user_id=user_id,
                    session_id=session_id,
                    next_page=next_page,
                    remember=remember,
                    created_at=now,
                    expires_at=now + ATTEMPT_LIFE,
                )
            )
        attempt = Attempt(
            provider,
            purpose,
            user_id,
            session_id,
            next_page,
            remember,
            now,
            secret.derived("nonce", state),
            secret.derived("verifier", state),
        )
        return state, attempt

    def claim(self, state: str, secret: BrowserSecret | None) -> Attempt:
        """The attempt that this browser began with this state, once. Raises `Refused`."""
        if secret is None or not 0 < len(state) <= MAX_STATE or not state.isascii():
            raise Refused("stale")
        with self._database.write() as session:
            row = session.execute(
                delete(OidcAttempt)
                .where(
                    OidcAttempt.state_hash == _row(secret, state),
                    OidcAttempt.expires_at > self._clock(),
                    OidcAttempt.purpose.in_(PURPOSES),
                )
                .returning(*OidcAttempt.__table__.c)
            ).one_or_none()
        if row is None:
            raise Refused("stale")
        return Attempt(
            row.provider,
            row.purpose,
            row.user_id,
            row.session_id,
            row.next_page,
            row.remember,
            row.created_at,
            secret.derived("nonce", state),
            secret.derived("verifier", state),
        )

    def use_logout_token(self, session: Session, provider: str, jti: str, stays: timedelta) -> bool:
        """Whether this token of a provider is here for the first time."""
        now = self._clock()
        inserted = session.scalar(
            self._database.insert_new(OidcAttempt)
            .values(
                state_hash=hashlib.sha256(f"logout\0{provider}\0{jti}".encode()).hexdigest(),
                provider=provider,
                purpose=LOGOUT,
                next_page="",
                remember=False,
                created_at=now,
                expires_at=now + stays,
            )
            .returning(OidcAttempt.state_hash)
        )
        return inserted is not None


def _row(secret: BrowserSecret, state: str) -> str:
    return hashlib.sha256(secret.derived("row", state).encode()).hexdigest()


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    # binascii's error is a ValueError, and so is that of what is not ASCII.
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
