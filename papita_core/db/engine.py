"""Engine and units of work.

`read()` sees one snapshot; `write()` takes the write lock at its start and commits at its end, or
rolls back. On SQLite that means `BEGIN IMMEDIATE`: a transaction that reads first and writes later
would otherwise lose updates silently or fail half-way. Inside one process writers queue on a lock,
which is fair and does not sleep as SQLite's own busy handler does.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from papita_core.db.base import Base
from sqlkit import Transaction, Transactions, ask_idle_connections, raise_as_sqlalchemy

BUSY_TIMEOUT_MS = 10_000
SCRUB_TIMEOUT_MS = 500
LOCK = 0x70617069  # any number that other programs do not use as advisory lock


class NameTaken(Exception):
    """Another transaction of this name is going on."""


class Database:
    """One database, SQLite or PostgreSQL, for all services of a process."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite and self.url.database:
            Path(self.url.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.engine = _engine(url, self.is_sqlite)
        # SQLite's transactions see one snapshot in any case.
        self._snapshots = (
            self.engine
            if self.is_sqlite
            else self.engine.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
        )
        # Without a transaction, which SQLite has none of before a begin.
        self._looking = (
            self.engine
            if self.is_sqlite
            else self.engine.execution_options(isolation_level="AUTOCOMMIT")
        )
        self._at_once = None if self.is_sqlite else Transactions(self.url, self.engine.dialect)
        self._writer = threading.Lock()
        self._names: set[str] = set()
        self._names_lock = threading.Lock()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session over one consistent snapshot, for which PostgreSQL refuses to write."""
        with Session(self._snapshots, expire_on_commit=False, autoflush=False) as session:
            yield session
            if not self.is_sqlite and session.in_transaction():
                # psycopg gives its prepared statements up at each rollback, and planning one takes
                # PostgreSQL longer than running it.
                session.connection().commit()

    @contextmanager
    def look(self) -> Iterator[Connection]:
        """For statements that read, each by itself what is committed when it runs. Prepared ones
        take less than half of `read`, and on PostgreSQL one way to the server instead of three.
        """
        with self._looking.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that commits when the block ends without an error, else rolls back."""
        with (
            self.write_plainly() as connection,
            Session(connection, expire_on_commit=False, autoflush=True) as session,
        ):
            yield session
            session.flush()

    @contextmanager
    def write_plainly(self) -> Iterator[Connection]:
        """As `write`, for who has no use for a session."""
        with self._one_writer(), self.engine.connect() as connection:
            connection = connection.execution_options(writing=True)
            with connection.begin():
                yield connection

    @contextmanager
    def write_at_once(self) -> Iterator[Connection | Transaction]:
        """As `write`, for prepared statements alone. On PostgreSQL they, the begin and the commit
        go to the server as `sqlkit.Transaction` says, over connections of their own.
        """
        if self._at_once is None:
            with self.write_plainly() as connection:
                yield connection
            return
        with self._at_once.begin() as transaction:
            yield transaction

    @contextmanager
    def write_alone(self, name: str) -> Iterator[Session]:
        """As `write`; raises `NameTaken`, at once, while another such call of this name runs.

        The claim ends with the transaction, and with the process. On SQLite, another process is
        waited for instead, as every writer waits there.
        """
        if not self.is_sqlite:
            number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
            with self.write() as session:
                claim = text("SELECT pg_try_advisory_xact_lock(:number)")
                if not session.scalar(claim, {"number": number}):
                    raise NameTaken
                yield session
            return
        with self._names_lock:
            if name in self._names:
                raise NameTaken
            self._names.add(name)
        try:
            with self.write() as session:
                yield session
        finally:
            with self._names_lock:
                self._names.discard(name)

    def scrub(self) -> None:
        """Empties SQLite's write-ahead log, where what was deleted stays on for a while.

        Where others read or write for longer than a moment, it is left to a later call and to the
        end of the process.
        """
        if self.is_sqlite:
            with self._writer, self.engine.connect() as connection:
                driver: Any = connection.connection.driver_connection
                driver.execute(f"PRAGMA busy_timeout={SCRUB_TIMEOUT_MS}")
                driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                driver.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")

    def one_at_a_time(self, where: Session | Connection) -> None:
        """From here to the end of the transaction of `where`, no other passes this line.

        For the start and for what looks at a whole table before it writes. On SQLite any writing
        transaction keeps the others out already.
        """
        if not self.is_sqlite:
            where.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})

    def insert_new(self, table: type[Base]) -> Any:
        """An INSERT that does nothing where the row, by any unique key, is there already."""
        insert = sqlite.insert if self.is_sqlite else postgresql.insert
        return insert(table).on_conflict_do_nothing()

    @contextmanager
    def _one_writer(self) -> Iterator[None]:
        if not self.is_sqlite:
            yield
            return
        with self._writer:
            yield

    def reachable(self) -> bool:
        try:
            with self.look() as connection:
                connection.exec_driver_sql("SELECT 1")
        except Exception:  # noqa: BLE001 - whatever the driver raises, the answer is no
            return False
        return True

    def close(self) -> None:
        self.engine.dispose()
        if self._at_once is not None:
            self._at_once.close()


def _use_wal(cursor: Any) -> None:
    """Write-ahead logging, which the file remembers once it is switched on.

    The switch needs the file alone and does not wait for that by itself.
    """
    end = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


def _engine(url: str, is_sqlite: bool) -> Engine:
    if not is_sqlite:
        # The connection that was used last has the most statements prepared.
        engine = create_engine(url, hide_parameters=True, pool_size=10, pool_use_lifo=True)
        ask_idle_connections(engine)
        return engine
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_size=16,
        max_overflow=32,
        connect_args={"check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, record: Any) -> None:
        # The driver's own transaction handling is switched off; `_begin` does it instead.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        _use_wal(cursor)
        for pragma in (
            # An audit row has to outlive a power cut, since the key that it records was handed out.
            "synchronous=FULL",
            "foreign_keys=ON",
            "secure_delete=ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writing = connection.get_execution_options().get("writing", False)
        driver: Any = connection.connection.driver_connection
        statement = "BEGIN IMMEDIATE" if writing else "BEGIN"
        try:
            driver.execute(statement)
        except sqlite3.Error as error:
            raise_as_sqlalchemy(connection.dialect, error, statement)

    return engine
