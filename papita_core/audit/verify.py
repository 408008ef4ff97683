"""Checks the whole log: every mac, every column, every head, and that no stream is missing.

Rows are read in chunks, each in a short transaction of its own. What is behind the head of a stream
never changes, so writers go on meanwhile; the last chunk and the head are read in one snapshot.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from papita_core.audit import chain
from papita_core.audit.models import AuditHead, AuditRow
from papita_core.db import AnyRow, Database, table_of
from papita_core.errors import SecretUnreadable
from papita_core.users.models import UserRow
from papita_core.vault.keyring import AUDIT, KeyRing

CHUNK = 2000  # rows
MOST_GAPS = 10_000  # so many rows taken out at one place are still told from an edited row
BEFORE_ALL = -(2**63)

_ROW, _HEAD = table_of(AuditRow), table_of(AuditHead)
_ROWS_AFTER = (
    select(_ROW)
    .where(_ROW.c.stream == bindparam("of"), _ROW.c.seq > bindparam("after"))
    .order_by(_ROW.c.seq)
)
_NEWEST = select(_HEAD.c.seq, _HEAD.c.mac).where(_HEAD.c.stream == bindparam("of"))


@dataclass(frozen=True, slots=True)
class Damage:
    """The first row of a stream that does not fit, and in which way.

    `kind` is edited, removed, inserted, reordered, cut off or head gone. Head gone is said of a
    stream as a whole, with seq 0: its rows, its head or both are missing, or were once.
    """

    stream: str
    seq: int
    kind: str


def verify(database: Database, ring: KeyRing) -> list[Damage]:
    """The first damage of each stream, main before the others. Raises `VaultSealed`."""
    ring.purpose_key(AUDIT)
    with database.read() as session:
        heads = set(session.scalars(select(_HEAD.c.stream)))
        with_rows = set(session.scalars(select(_ROW.c.stream).distinct()))
        opened = Counter(_opened(session))
        has_users = bool(session.scalar(select(func.count()).select_from(UserRow)))
    gone = (with_rows | opened.keys()) - heads
    gone |= {stream for stream, times in opened.items() if times > 1}  # made anew after a removal
    if has_users and chain.MAIN not in heads:
        gone.add(chain.MAIN)  # whoever made the first user wrote the first row
    found: dict[str, Damage] = {stream: Damage(stream, 0, "head gone") for stream in gone}
    for stream in _main_first(heads - gone):
        if stream not in (chain.MAIN, *opened) and chain.MAIN not in found:
            found[stream] = Damage(stream, 0, "inserted")  # main says of each one that it was made
            continue
        damage = _Walk(database, ring, stream).damage()
        if damage is not None:
            found[stream] = damage
    return [found[stream] for stream in _main_first(found)]


def _main_first(streams: Iterable[str]) -> list[str]:
    return sorted(streams, key=lambda stream: (stream != chain.MAIN, stream))


def _opened(session: Session) -> Iterator[str]:
    """The streams that main says were opened; a row that was edited is found later on."""
    for body in session.scalars(
        select(_ROW.c.body).where(_ROW.c.stream == chain.MAIN, _ROW.c.action == chain.STREAM_OPENED)
    ):
        try:
            yield str(chain.event_of(body).details["stream"])
        except (ValueError, LookupError, TypeError):
            continue


class _Walk:
    """One stream from its first row to its head."""

    def __init__(self, database: Database, ring: KeyRing, stream: str) -> None:
        self._database = database
        self._ring = ring
        self._stream = stream
        self._keys: dict[str, bytes] = {}

    def damage(self) -> Damage | None:
        previous, after, kid = chain.START, BEFORE_ALL, ""
        while True:
            with self._database.read() as session:
                place = {"of": self._stream, "after": after}
                rows = session.execute(_ROWS_AFTER.limit(CHUNK), place).all()
                for row in rows:
                    expected = max(after, 0) + 1
                    damage = self._row_damage(session, row, expected, previous)
                    if damage is not None:
                        return damage
                    after, previous, kid = row.seq, row.mac, row.key_kid
                if len(rows) < CHUNK:
                    return self._end_damage(session, max(after, 0), previous, kid)

    def _row_damage(
        self, session: Session, row: AnyRow, expected: int, previous: bytes
    ) -> Damage | None:
        if row.seq < expected:
            return Damage(self._stream, row.seq, "inserted")
        if row.seq > expected:
            return Damage(self._stream, expected, "removed")
        if not self._fits(session, row, row.seq, previous):
            return Damage(self._stream, row.seq, self._what_happened(session, row, previous))
        columns = (row.at, *(getattr(row, name) for name in chain.REPEATED))
        if chain.repeated(row.body) != columns:
            return Damage(self._stream, row.seq, "edited")
        if row.action == chain.BEGUN_ANEW:
            return Damage(self._stream, 0, "head gone")
        return None

    def _end_damage(self, session: Session, last: int, previous: bytes, kid: str) -> Damage | None:
        head = session.execute(_NEWEST, {"of": self._stream}).one_or_none()
        if head is None:
            return Damage(self._stream, 0, "head gone")
        key = self._keys.get(kid, b"")  # there is none where there is no row
        expected = chain.head_mac(key, self._stream, last, previous)
        if last == 0 or head.seq != last or not hmac.compare_digest(head.mac, expected):
            return Damage(self._stream, last + 1, "cut off")
        return None

    def _fits(self, session: Session, row: AnyRow, seq: int, previous: bytes) -> bool:
        """Whether `row` is the one that was written at `seq`, after the row with `previous`."""
        kid = row.key_kid
        if kid not in self._keys:
            try:
                self._keys[kid] = self._ring.purpose_key_by_id(session, kid)
            except SecretUnreadable:
                return False
        expected = chain.mac(self._keys[kid], row.stream, seq, previous, row.body)
        return hmac.compare_digest(expected, row.mac)

    def _what_happened(self, session: Session, row: AnyRow, previous: bytes) -> str:
        """What was done to the log at `row`, as far as the macs of the rows around it tell."""
        before = row.mac
        following: AnyRow | None = None
        place = {"of": row.stream, "after": row.seq}
        for later in session.execute(_ROWS_AFTER.execution_options(yield_per=CHUNK), place):
            following = following or later
            if self._fits(session, later, row.seq, previous):
                moved = any(self._fits(session, row, later.seq, mac) for mac in (before, later.mac))
                return "reordered" if moved else "inserted"
            before = later.mac
        if following is None:
            head = session.execute(_NEWEST, {"of": row.stream}).one_or_none()
            return "inserted" if head is not None and row.seq > head.seq else "edited"
        gaps = range(1, MOST_GAPS)
        moved_up = any(self._fits(session, following, following.seq + gap, row.mac) for gap in gaps)
        return "removed" if moved_up else "edited"
