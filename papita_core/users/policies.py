"""What administrators decide for everybody: who needs a second factor, who may sign up, whether
accounts are linked by e-mail. Read anew each time, so that a change is in force at once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import select

from papita_core.actors import Actor
from papita_core.audit.service import AuditLog, Event
from papita_core.clock import Clock, utc_now
from papita_core.db import Database
from papita_core.errors import InvalidInput
from papita_core.users.models import PolicyRow

SECOND_FACTOR = "second-factor"
SIGN_UP = "sign-up"
LINK_BY_EMAIL = "link-by-email"
# The first value of each is in force until somebody decides otherwise.
VALUES: dict[str, tuple[str, ...]] = {
    SECOND_FACTOR: ("nobody", "administrators", "everybody"),
    SIGN_UP: ("closed", "approval", "open"),
    LINK_BY_EMAIL: ("no", "yes"),
}


@dataclass(frozen=True, slots=True)
class Policies:
    """`second_factor`: of whom one is required. `sign_up`: whether strangers may make accounts
    themselves. `link_by_email`: whether a sign-in at an identity provider finds the account that
    has the same verified e-mail.
    """

    second_factor: str
    sign_up: str
    link_by_email: bool


class PolicyService:
    def __init__(self, database: Database, audit: AuditLog, clock: Clock = utc_now) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock

    def current(self) -> Policies:
        with self._database.read() as session:
            rows = session.execute(select(PolicyRow.name, PolicyRow.value)).all()
        stored = {row.name: json.loads(row.value) for row in rows}
        found = {name: stored.get(name, values[0]) for name, values in VALUES.items()}
        return Policies(found[SECOND_FACTOR], found[SIGN_UP], found[LINK_BY_EMAIL] == "yes")

    def put(self, actor: Actor, name: str, value: str) -> None:
        """Decides. Raises `InvalidInput`, `Forbidden` and `ReauthenticationRequired`."""
        actor.require("users:manage")
        now = self._clock()
        actor.require_proof(now)
        if name not in VALUES:
            raise InvalidInput({"name": f"The policies are {', '.join(VALUES)}."})
        if value not in VALUES[name]:
            raise InvalidInput({"value": f"The values of {name} are {', '.join(VALUES[name])}."})
        with self._database.write() as session:
            session.merge(PolicyRow(name=name, value=json.dumps(value), updated_at=now))
            self._audit.append(
                session,
                Event("policy.changed", actor.user_id, details={"policy": name, "value": value}),
            )


def requires_second_factor(stored: str | None, role: str) -> bool:
    """Whether the policy, as its row has it (None: no row), requires one of this role."""
    value = VALUES[SECOND_FACTOR][0] if stored is None else json.loads(stored)
    return value == "everybody" or (value == "administrators" and role == "administrator")
