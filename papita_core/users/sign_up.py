"""What strangers may ask for at the door: an account, where the policy lets them, and a new
password. Neither tells, by words or by time, who has an account here.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

from sqlalchemy import or_, select

from papita_core.audit.service import AuditLog, Event
from papita_core.clock import Clock, utc_now
from papita_core.db import Database
from papita_core.errors import AlreadyExists, SignUpClosed
from papita_core.users.events import note
from papita_core.users.limits import Limit, LimitService, Try, network_of
from papita_core.users.models import UserRow
from papita_core.users.passwords import hash_password
from papita_core.users.policies import PolicyService
from papita_core.users.service import (
    NewUser,
    UserService,
    check,
    email_key,
    normalise_username,
)

CLOSED, APPROVAL, OPEN = "closed", "approval", "open"
SIGN_UPS = Limit("sign-up.address", 5, timedelta(hours=1))
ALL_SIGN_UPS = Limit("sign-up.all", 100, timedelta(hours=1))
RESETS_OF_NAME = Limit("forgotten.account", 3, timedelta(hours=1))
RESETS = Limit("forgotten.address", 10, timedelta(hours=1))
ALL_RESETS = Limit("forgotten.all", 200, timedelta(hours=1))

# For a name that is taken the database has a fraction of a millisecond less to do than for one that
# is free. Answers come when the next quarter of a second is full, whichever it was.
ANSWER_EVERY = 0.25  # seconds


class SignUpService:
    def __init__(
        self,
        database: Database,
        users: UserService,
        policies: PolicyService,
        limits: LimitService,
        audit: AuditLog,
        clock: Clock = utc_now,
    ) -> None:
        self._database = database
        self._users = users
        self._policies = policies
        self._limits = limits
        self._audit = audit
        self._clock = clock

    def sign_up(self, new: NewUser, *, address: str = "") -> str:
        """Makes the account, if name and e-mail are free, and says under which policy: OPEN or
        APPROVAL. Whoever gets the answer cannot tell whether they were.

        The role is that of a member. Raises `InvalidInput`, `SignUpClosed`, `TooManyAttempts`.
        """
        policy = self._policies.current().sign_up
        if policy == CLOSED:
            raise SignUpClosed
        new = replace(new, role="member")
        check(new)
        begin = time.monotonic()
        self._limits.hit(
            Try(SIGN_UPS, network_of(address), address=address),
            Try(ALL_SIGN_UPS, "", address=address),
        )
        encoded = hash_password(new.password)
        with self._database.write() as session:
            try:
                self._users.add(
                    session,
                    new,
                    encoded,
                    actor_id="sign-up",
                    vouched=False,
                    waiting=policy == APPROVAL,
                )
            except AlreadyExists:
                self._audit.append(session, Event("user.created", "sign-up", outcome="taken"))
        _wait_since(begin)
        return policy

    def forgotten(self, name: str, *, address: str = "") -> None:
        """Notes for administrators that a user, by name or e-mail, asks for a new password.

        Raises `TooManyAttempts`, whether there is such a user or not.
        """
        begin = time.monotonic()
        name = name.replace("\0", "\ufffd")
        key, network = normalise_username(name), network_of(address)
        self._limits.hit(
            Try(RESETS_OF_NAME, f"{key}|{network}", address=address),
            Try(RESETS, network, address=address),
            Try(ALL_RESETS, "", address=address),
        )
        with self._database.write() as session:
            user = session.scalar(
                select(UserRow).where(
                    or_(UserRow.username == key, UserRow.email_key == email_key(name)),
                    UserRow.disabled_at.is_(None),
                )
            )
            if user is not None:
                user.reset_asked_at = self._clock()
                session.flush()
            user_id = None if user is None else user.id
            event = Event(
                "user.reset-asked",
                owner_id=user_id,
                subject_id=user_id,
                outcome="ok" if user is not None else "unknown",
                details={"address": address[:64]},
            )
            note(self._audit, session, event)
        _wait_since(begin)


def _wait_since(begin: float) -> None:
    time.sleep((begin - time.monotonic()) % ANSWER_EVERY)
