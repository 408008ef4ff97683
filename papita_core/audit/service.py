"""The audit log: one row for each read of a secret and each change, in the same transaction.

Rows form a chain of keyed macs, `HMAC(key, stream ‖ seq ‖ previous mac ‖ body)`: whoever can write
the database, but has not the key, cannot edit, remove, insert or reorder rows unseen. A body holds
who, on whose behalf, what, which lease and how it ended; never a value.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.orm import Session

from papita_core.actors import Actor
from papita_core.audit.models import AuditHead, AuditRow
from papita_core.clock import Clock, utc_now
from papita_core.db import Database, table_of
from papita_core.errors import SecretUnreadable
from papita_core.vault.keyring import AUDIT, KeyRing

# Plain tables: every loan comes by here, and the mapper would double what it costs.
_HEAD = table_of(AuditHead)
_INSERT = insert(table_of(AuditRow))
_ADVANCE = (
    update(_HEAD)
    .where(_HEAD.c.stream == bindparam("of"))
    .values(seq=bindparam("to"), mac=bindparam("with"))
)
_NEWEST = (
    select(_HEAD.c.seq, _HEAD.c.mac).where(_HEAD.c.stream == bindparam("of")).with_for_update()
)

STREAM = "main"
START = b"\0" * 32
REPEATED = ("action", "actor_id", "owner_id", "subject_id", "project_id", "outcome")
MOST_GAPS = 10_000  # so many rows taken out at one place are still told from an edited row


@dataclass(frozen=True, slots=True)
class Event:
    """What happened. `owner_id` is whose things it concerns; `outcome` is ok, or why not."""

    action: str
    actor_id: str | None = None
    owner_id: str | None = None
    subject_id: str | None = None
    project_id: str | None = None
    lease_id: str | None = None
    request_id: str | None = None
    run_id: str | None = None
    outcome: str = "ok"
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """An event of the log, with its place and time."""

    stream: str
    seq: int
    at: datetime
    event: Event


@dataclass(frozen=True, slots=True)
class Damage:
    """The first row of a stream that does not fit, and in which way.

    `kind` is edited, removed, inserted, reordered, cut off or head gone.
    """

    stream: str
    seq: int
    kind: str


class AuditLog:
    def __init__(self, database: Database, ring: KeyRing, clock: Clock = utc_now) -> None:
        self._database = database
        self._ring = ring
        self._clock = clock

    def append(self, session: Session, *events: Event) -> None:
        """Adds rows to the caller's transaction. Raises `VaultSealed` while there is no key."""
        kid, key = self._ring.purpose_key(AUDIT)
        now = self._clock()
        seq, mac = self._head(session)
        rows = []
        for event in events:
            seq += 1
            body = _canonical(event, now)
            mac = _mac(key, STREAM, seq, mac, body)
            rows.append(
                {
                    "stream": STREAM,
                    "seq": seq,
                    "at": now,
                    "action": event.action,
                    "actor_id": event.actor_id,
                    "owner_id": event.owner_id,
                    "subject_id": event.subject_id,
                    "project_id": event.project_id,
                    "outcome": event.outcome,
                    "body": body,
                    "key_kid": kid,
                    "mac": mac,
                }
            )
        session.execute(_INSERT, rows)
        session.execute(_ADVANCE, {"of": STREAM, "to": seq, "with": mac})

    def entries(
        self,
        actor: Actor,
        *,
        owner_id: str | None = None,
        action: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[Entry]:
        """Newest first. Users see what concerns them; `audit:read` sees everything."""
        if not actor.may("audit:read"):
            owner_id = actor.user_id
        query = select(AuditRow).where(AuditRow.stream == STREAM).order_by(AuditRow.seq.desc())
        if owner_id is not None:
            query = query.where(AuditRow.owner_id == owner_id)
        if action is not None:
            query = query.where(AuditRow.action == action)
        if before is not None:
            query = query.where(AuditRow.seq < before)
        with self._database.read() as session:
            rows = session.scalars(query.limit(max(1, min(limit, 500)))).all()
        return [Entry(row.stream, row.seq, row.at, _event(row.body)) for row in rows]

    def verify(self) -> list[Damage]:
        """The first damage of each stream; empty where the whole log is as it was written."""
        with self._database.read() as session:
            heads = session.scalars(select(AuditHead)).all()
            found = (self._verify_stream(session, head) for head in heads)
            damages = [damage for damage in found if damage is not None]
            orphans = session.scalars(
                select(AuditRow.stream)
                .where(AuditRow.stream.not_in([head.stream for head in heads]))
                .distinct()
            ).all()
        return damages + [Damage(stream, 0, "head gone") for stream in orphans]

    def _verify_stream(self, session: Session, head: AuditHead) -> Damage | None:
        keys: dict[str, bytes] = {}
        expected, previous = 1, START
        rows: Iterator[AuditRow] = iter(
            session.scalars(
                select(AuditRow).where(AuditRow.stream == head.stream).order_by(AuditRow.seq)
            ).yield_per(1000)
        )
        for row in rows:
            if row.seq != expected:
                return Damage(head.stream, expected, "removed")
            if not self._fits(session, keys, row, row.seq, previous):
                kind = self._what_happened(session, keys, row, previous)
                return Damage(head.stream, row.seq, kind)
            if _repeated(row.body) != tuple(getattr(row, name) for name in ("at", *REPEATED)):
                return Damage(head.stream, row.seq, "edited")
            expected, previous = row.seq + 1, row.mac
        if head.seq != expected - 1 or not hmac.compare_digest(head.mac, previous):
            return Damage(head.stream, expected, "cut off")
        return None

    def _fits(
        self, session: Session, keys: dict[str, bytes], row: AuditRow, seq: int, previous: bytes
    ) -> bool:
        """Whether `row` is the one that was written at `seq`, after the row with `previous`."""
        if row.key_kid not in keys:
            try:
                keys[row.key_kid] = self._ring.purpose_key_by_id(session, row.key_kid)
            except SecretUnreadable:
                return False
        expected = _mac(keys[row.key_kid], row.stream, seq, previous, row.body)
        return hmac.compare_digest(expected, row.mac)

    def _what_happened(
        self, session: Session, keys: dict[str, bytes], row: AuditRow, previous: bytes
    ) -> str:
        """What was done to the log at `row`, as far as the macs of the rows around it tell."""
        after = select(AuditRow).where(AuditRow.stream == row.stream, AuditRow.seq > row.seq)
        before = row.mac
        following: AuditRow | None = None
        for later in session.scalars(
            after.order_by(AuditRow.seq).execution_options(yield_per=1000)
        ):
            following = following or later
            if self._fits(session, keys, later, row.seq, previous):
                moved = any(
                    self._fits(session, keys, row, later.seq, mac) for mac in (before, later.mac)
                )
                return "reordered" if moved else "inserted"
            before = later.mac
        if following is None:
            head = session.get_one(AuditHead, row.stream)
            return "inserted" if row.seq > head.seq else "edited"
        gaps = range(1, MOST_GAPS)
        moved_up = any(
            self._fits(session, keys, following, following.seq + gap, row.mac) for gap in gaps
        )
        return "removed" if moved_up else "edited"

    def count(self) -> int:
        with self._database.read() as session:
            return session.scalar(select(func.count()).select_from(AuditRow)) or 0

    def _head(self, session: Session) -> tuple[int, bytes]:
        head = session.execute(_NEWEST, {"of": STREAM}).one_or_none()
        if head is None:
            # Of several that write the very first row at once, one makes the head.
            self._database.one_at_a_time(session)
            head = session.execute(_NEWEST, {"of": STREAM}).one_or_none()
        if head is None:
            session.execute(insert(AuditHead).values(stream=STREAM, seq=0, mac=START))
            return 0, START
        return head.seq, head.mac


def _canonical(event: Event, at: datetime) -> str:
    body = {name: value for name, value in asdict(event).items() if value not in (None, {})}
    body["at"] = at.isoformat(timespec="microseconds")
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _event(body: str) -> Event:
    values = json.loads(body)
    values.pop("at", None)
    return Event(**values)


def _repeated(body: str) -> tuple[Any, ...]:
    """The parts of a body that stand in columns of their own, for search."""
    values = json.loads(body)
    return datetime.fromisoformat(values["at"]), *(values.get(name) for name in REPEATED)


def _mac(key: bytes, stream: str, seq: int, previous: bytes, body: str) -> bytes:
    parts: Sequence[bytes] = (stream.encode(), seq.to_bytes(8, "big"), previous, body.encode())
    message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return hmac.new(key, message, hashlib.sha256).digest()
