"""Checking a name and a password.

A wrong name and a wrong password get the same words and cost the same time. Too many failures in a
row are refused for a short while that ends by itself.
"""

from __future__ import annotations

import threading
import time

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from sqlalchemy import select

from papita_core.db import Database
from papita_core.errors import SignInRefused, TooManyAttempts
from papita_core.users.models import UserRow
from papita_core.users.passwords import dummy_hash, verify_password
from papita_core.users.service import USERNAME, User, normalise_username, to_user

# Counted per account *and* address, so that a stranger cannot keep the owner of an account out.
FAILURES_PER_ACCOUNT = RateLimitItemPerMinute(5)
FAILURES_PER_ADDRESS = RateLimitItemPerMinute(30)


class SignInService:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        # A failure counts once the password is checked: of many tries at one account at once, each
        # has to wait for the one before it, or all of them would be let through uncounted.
        self._in_turn = tuple(threading.Lock() for _ in range(64))
        self._dummy = dummy_hash()

    def authenticate(self, username: str, password: str, *, address: str = "") -> User:
        """The user. Raises `SignInRefused` and `TooManyAttempts`."""
        name = normalise_username(username)
        counters = (
            (FAILURES_PER_ACCOUNT, f"{name}|{address}"),
            (FAILURES_PER_ADDRESS, address),
        )
        with self._in_turn[hash(counters[0][1]) % len(self._in_turn)]:
            return self._checked(name, password, counters)

    def _checked(
        self, name: str, password: str, counters: tuple[tuple[RateLimitItem, str], ...]
    ) -> User:
        for limit, key in counters:
            if not self._limiter.test(limit, key):
                reset = self._limiter.get_window_stats(limit, key).reset_time
                raise TooManyAttempts(int(reset - time.time()) + 1)
        with self._database.read() as session:
            row = (
                session.scalar(select(UserRow).where(UserRow.username == name))
                if USERNAME.fullmatch(name)
                else None
            )
        encoded = row.password_hash if row is not None else self._dummy
        right = verify_password(password, encoded)
        if not right or row is None or row.disabled_at is not None:
            for limit, key in counters:
                self._limiter.hit(limit, key)
            raise SignInRefused
        return to_user(row)
