"""The audit log: one row for each read of a secret and each change, in the same transaction.

Rows form chains of keyed macs: whoever can write the database, but has not the key, cannot edit,
remove, insert or reorder rows unseen. A body holds who, on whose behalf, what, which lease and how
it ended; never a value.

Each chain is a stream, and whoever appends to one holds its head until the commit. SQLite has one
writer at a time anyway and one stream, "main"; on PostgreSQL loans go to sixteen others, so that
they do not wait for each other. The opening of a stream is itself a row of main.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import orjson
from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    LargeBinary,
    String,
    Text,
    bindparam,
    cast,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from papita_core.actors import Actor
from papita_core.audit import chain, search
from papita_core.audit.chain import MAIN, Event
from papita_core.audit.models import AuditHead, AuditRow
from papita_core.audit.search import AuditFilter, AuditPage, Entry, Place
from papita_core.audit.verify import Damage, verify
from papita_core.clock import Clock, utc_now
from papita_core.db import Database, Prepared, Within, table_of
from papita_core.errors import InvalidInput
from papita_core.users.models import UserRow
from papita_core.vault.keyring import AUDIT, KeyRing
from sqlkit import Transaction

__all__ = ["AuditFilter", "AuditLog", "AuditPage", "Damage", "Entry", "Event"]

LOAN_STREAMS = tuple(f"loans-{number}" for number in range(16))
# Who acts, and has no account.
NOT_USERS = frozenset({"operator", "setup", "invitation", "provider", "sign-up"})
USER_CREATED = "user.created"
EXPORT_CHUNK = 1000  # rows


def _in_json(item: Column[Any]) -> Column[Any]:
    """A column as it stands in a JSON text: bytes are hexadecimal digits."""
    as_text = isinstance(item.type, String | LargeBinary)
    return Column(item.name, Text() if as_text else item.type)


def _from_json(item: Column[Any], value: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.decode(value, "hex") if isinstance(item.type, LargeBinary) else value


# Plain tables: every loan comes by here, and the mapper would double what it costs.
_ROW, _HEAD = table_of(AuditRow), table_of(AuditHead)
_INSERT = Prepared(insert(_ROW))
_ADVANCED = (
    update(_HEAD)
    .where(_HEAD.c.stream == bindparam("of"))
    .values(seq=bindparam("to"), mac=bindparam("with"))
)
_ADVANCE = Prepared(_ADVANCED)
# The same two as one statement, for where each is a way to a server and back. The rows are one JSON
# text: an array for each column takes several times as long to write down.
_AS_ROWS = (
    func.json_to_recordset(cast(bindparam("rows", type_=Text()), JSON))
    .table_valued(*(_in_json(item) for item in _ROW.c))
    .render_derived(with_types=True)
)
_INSERT_AND_ADVANCE = Prepared(
    insert(_ROW)
    .from_select(
        _ROW.c.keys(), select(*(_from_json(item, _AS_ROWS.c[item.name]) for item in _ROW.c))
    )
    .add_cte(_ADVANCED.cte("advanced"))
)
_NEWEST = Prepared(
    select(_HEAD.c.seq, _HEAD.c.mac).where(_HEAD.c.stream == bindparam("of")).with_for_update()
)
Head = tuple[int, bytes]


class AuditLog:
    def __init__(self, database: Database, ring: KeyRing, clock: Clock = utc_now) -> None:
        self._database = database
        self._ring = ring
        self._clock = clock

    # --- writing ---

    def append(
        self,
        within: Within,
        *events: Event,
        stream: str = MAIN,
        head: Head | None = None,
    ) -> None:
        """Adds rows to the caller's transaction. Raises `VaultSealed` while there is no key.

        Best last in the transaction: from here to its end all others who write to the stream wait.
        Whoever writes to main and to another stream writes to main first, and all locks on other
        tables that are waited for come before both; else two may wait for each other. `head` is
        what `hold` has found in this transaction; one of `write_at_once` must have it.
        """
        kid, key = self._ring.purpose_key(AUDIT)
        if head is None:
            if isinstance(within, Transaction):
                raise TypeError("head: needed in a transaction of `write_at_once`")
            head = self._head(within, stream) or self._open(within, stream, events)
        seq, mac = head
        # Read under the lock, so that times within a stream rise with its numbers.
        now = self._clock()
        rows = []
        for event in events:
            seq += 1
            body = chain.canonical(event, now)
            mac = chain.mac(key, stream, seq, mac, body)
            rows.append(
                {
                    "stream": stream,
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
        moved = {"of": stream, "to": seq, "with": chain.head_mac(key, stream, seq, mac)}
        if self._database.is_sqlite:
            _INSERT.run(within, *rows)
            _ADVANCE.run(within, moved)
        else:
            text = orjson.dumps(rows, default=bytes.hex).decode()
            _INSERT_AND_ADVANCE.run(within, {"rows": text} | moved)

    def loan_stream(self) -> str:
        """The stream for the next loans: main on SQLite, else one of sixteen by chance."""
        return MAIN if self._database.is_sqlite else secrets.choice(LOAN_STREAMS)

    def hold(self, within: Within, stream: str) -> Callable[[], Head | None]:
        """Asks for the head of a stream, which nobody else gets until this transaction ends.

        What it returns is to be called once, for the head; None if the stream has none yet.
        """
        asked = _NEWEST.ask(within, {"of": stream})

        def head() -> Head | None:
            found = asked()
            return (found[0].seq, found[0].mac[: chain.MAC_SIZE]) if found else None

        return head

    def _head(self, within: Session | Connection, stream: str) -> Head | None:
        return self.hold(within, stream)()

    def _open(self, within: Session | Connection, stream: str, events: Sequence[Event]) -> Head:
        """The head of a stream that had none a moment ago.

        Main's head is held while another is made: of several that open the same stream one does.
        """
        if stream == MAIN:
            return self._open_main(within, events)
        if self._head(within, MAIN) is None:
            self._open_main(within, events)
        found = self._head(within, stream)
        if found is not None:
            return found
        self.append(within, Event(chain.STREAM_OPENED, details={"stream": stream}))
        within.execute(insert(_HEAD).values(stream=stream, seq=0, mac=chain.START))
        return 0, chain.START

    def _open_main(self, within: Session | Connection, events: Sequence[Event]) -> Head:
        # Waits for another who is just making it, and does nothing if that one commits.
        within.execute(
            self._database.insert_new(AuditHead).values(stream=MAIN, seq=0, mac=chain.START)
        )
        head = self._head(within, MAIN)
        if head is None:
            raise LookupError("the head of the audit log went away again")
        users = within.scalar(select(func.count()).select_from(UserRow)) or 0
        new = sum(event.action == USER_CREATED for event in events)
        if head[0] == 0 and users > new:
            # No user is there before the first row. Somebody has emptied the log: this row makes
            # that stay visible.
            self.append(within, Event(chain.BEGUN_ANEW, details={"users": users}))
            return self._head(within, MAIN) or head
        return head

    # --- reading ---

    def entries(
        self,
        actor: Actor,
        wanted: AuditFilter = AuditFilter(),  # noqa: B008 - a frozen value
        *,
        cursor: str | None = None,
        limit: int = 100,
    ) -> AuditPage:
        """A page of all streams, newest first. `limit` is 1 to 500; the cursor is opaque.

        Users see what concerns them, `audit:read` sees everything. Raises `InvalidInput`.
        """
        if not 1 <= limit <= search.MAX_PAGE:
            raise InvalidInput({"limit": f"A page holds 1 to {search.MAX_PAGE} entries."})
        conditions = self._conditions(actor, wanted)
        if cursor is not None:
            conditions += search.before(Place.at_cursor(cursor))
        statement = search.newest_first(search.query(*conditions)).limit(limit + 1)
        with self._database.read() as session:
            rows = session.execute(statement).all()
        items = [search.entry_of(row) for row in rows[:limit]]
        more = len(rows) > limit
        return AuditPage(items, Place.of(items[-1]).cursor() if more else None)

    def export(
        self,
        actor: Actor,
        wanted: AuditFilter = AuditFilter(),  # noqa: B008 - a frozen value
    ) -> Iterator[Entry]:
        """All that `entries` would page through, up to now, oldest first.

        Read a thousand rows at a time, each time in a transaction of its own, so that an export of
        any size takes little memory and holds nobody up. Raises `InvalidInput` at once.
        """
        now = self._clock()
        until = now if wanted.until is None else min(wanted.until, now)
        return self._in_chunks(self._conditions(actor, replace(wanted, until=until)))

    def _in_chunks(self, conditions: list[search.Condition]) -> Iterator[Entry]:
        place: list[search.Condition] = []
        while True:
            statement = search.oldest_first(search.query(*conditions, *place)).limit(EXPORT_CHUNK)
            with self._database.read() as session:
                rows = session.execute(statement).all()
            entry = None
            for row in rows:
                entry = search.entry_of(row)
                yield entry
            if entry is None or len(rows) < EXPORT_CHUNK:
                return
            place = search.after(Place.of(entry))

    def _conditions(self, actor: Actor, wanted: AuditFilter) -> list[search.Condition]:
        conditions = search.conditions(wanted)
        if not actor.may("audit:read"):
            conditions += search.conditions(AuditFilter(owner_id=actor.user_id))
        return conditions

    def user_id(self, actor: Actor, name: str) -> str:
        """The id to look for, of a user name or an id. Raises `InvalidInput` and `Forbidden`."""
        actor.require("audit:read")
        wanted = name.strip().casefold()
        with self._database.read() as session:
            found = wanted.isprintable() and session.scalar(
                select(UserRow.id).where(or_(UserRow.username == wanted, UserRow.id == wanted))
            )
        if found:
            return str(found)
        if wanted in NOT_USERS:
            return wanted
        raise InvalidInput({"user": "There is no user of this name. `users list` has all names."})

    def actions(self) -> tuple[str, ...]:
        """The names of all actions that occur in the log, in order."""
        found: list[str] = []
        with self._database.read() as session:
            # From name to name along the index: there are few names and very many rows.
            following = session.scalar(select(func.min(_ROW.c.action)))
            while following is not None:
                found.append(following)
                following = session.scalar(
                    select(func.min(_ROW.c.action)).where(_ROW.c.action > following)
                )
        return tuple(found)

    def verify(self) -> list[Damage]:
        """The first damage of each stream; empty where the whole log is as it was written.

        Raises `VaultSealed`.
        """
        return verify(self._database, self._ring)

    def count(self) -> int:
        with self._database.read() as session:
            return session.scalar(select(func.count()).select_from(AuditRow)) or 0
