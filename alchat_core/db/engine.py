"""Units of work on the own database: `read(unit)` reads, `write(unit)` is one commit.

A unit is a plain function over a SQLAlchemy `Connection`. On PostgreSQL it runs over psycopg's
asynchronous driver; what every answer does goes below SQLAlchemy there, over `direct`
(`sqlkit.direct`), which is None on SQLite. On SQLite a unit runs right on the event loop: a commit
there is a fraction of a millisecond, while a driver thread has to win the interpreter's lock back
for every row, which costs a busy service a hundred times as much. What may take long (`slow=True`)
goes to a thread.

A writing unit takes SQLite's write lock at its begin (BEGIN IMMEDIATE): with the driver's default,
two writers that read first lose updates without an error. WAL with synchronous=NORMAL keeps each
commit through a kill of this process; through a power cut the last commits may be lost.
Checkpoints, which do wait for the disk, are made by a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from sqlkit import Direct, ask_idle_connections

log = logging.getLogger(__name__)

T = TypeVar("T")
Unit = Callable[[Connection], T]

LOCK_PATIENCE_SECONDS = 15.0
CHECKPOINT_SECONDS = 2.0


class _Busy(Exception):
    """Another process holds the write lock."""


class Database:
    """Built once per process; `close()` before the loop ends."""

    def __init__(self, url: str) -> None:
        self.sqlite = make_url(url).get_backend_name() == "sqlite"
        self._closed = threading.Event()
        self._connections: dict[str, Connection] = {}
        self._local: Engine | None = None
        self._remote: AsyncEngine | None = None
        self._reading: AsyncEngine | None = None
        self.direct: Direct | None = None
        if self.sqlite:
            self._local = create_engine(
                url,
                hide_parameters=True,
                # Another process that writes must not hold the loop: `write` waits instead.
                connect_args={"isolation_level": None, "timeout": 0.02, "check_same_thread": False},
                pool_size=4,
                max_overflow=12,
            )
            event.listen(self._local, "connect", _prepare_sqlite)
            event.listen(self._local, "begin", _begin_sqlite)
            self._keeper = threading.Thread(
                target=self._checkpoint_forever, name="checkpoints", daemon=True
            )
            self._keeper.start()
        else:
            self._remote = create_async_engine(
                url, hide_parameters=True, pool_size=10, max_overflow=10
            )
            ask_idle_connections(self._remote.sync_engine)
            # Each statement that reads sees what is committed, with a transaction and without: so
            # the way to begin and to end one is saved.
            self._reading = self._remote.execution_options(isolation_level="AUTOCOMMIT")
            self.direct = Direct(self._remote.url, self._remote.dialect)

    async def read(self, unit: Unit[T], *, slow: bool = False) -> T:
        """Runs `unit`, which only reads."""
        if self._reading is not None:
            async with self._reading.connect() as remote:
                return await remote.run_sync(unit)
        if slow:
            return await asyncio.to_thread(self._read_apart, unit)
        connection = self._kept("reader")
        try:
            return unit(connection)
        except SQLAlchemyError:
            self._lost("reader")
            raise
        finally:
            if not connection.closed:
                connection.rollback()

    async def write(self, unit: Unit[T]) -> T:
        """Runs `unit` and commits; rolls back if it raises."""
        if self._remote is not None:
            async with self._remote.begin() as remote:
                return await remote.run_sync(unit)
        deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
        while True:
            connection = self._kept("writer")
            try:
                with connection.begin():
                    return unit(connection)
            except _Busy as error:
                if time.monotonic() > deadline:
                    raise OperationalError("BEGIN IMMEDIATE", None, error) from None
            except SQLAlchemyError:
                self._lost("writer")
                raise
            await asyncio.sleep(0.01)

    async def ping(self) -> None:
        """Raises whatever the driver raises if the database cannot be reached."""
        await self.read(lambda connection: connection.execute(text("SELECT 1")))

    async def scrub(self) -> None:
        """Empties SQLite's write-ahead log, where what was deleted stays on for a while.

        As long as others read or write it is left to a later call, and to `close`.
        """
        if self._local is not None:
            await asyncio.to_thread(self._truncate_log)

    async def close(self) -> None:
        self._closed.set()
        if self._local is not None:
            await asyncio.to_thread(self._keeper.join, 5.0)
            for name in tuple(self._connections):
                self._lost(name)
            self._local.dispose()
        if self.direct is not None:
            await self.direct.close()
        if self._remote is not None:
            await self._remote.dispose()

    def _kept(self, name: str) -> Connection:
        """A connection of the loop's own; units never overlap there, so one each is enough."""
        assert self._local is not None  # noqa: S101 - the other engine has its own path
        connection = self._connections.get(name)
        if connection is None:
            engine = self._local.execution_options(alchat_write=True)
            connection = (engine if name == "writer" else self._local).connect()
            self._connections[name] = connection
        return connection

    def _lost(self, name: str) -> None:
        connection = self._connections.pop(name, None)
        if connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                connection.close()

    def _read_apart(self, unit: Unit[T]) -> T:
        assert self._local is not None  # noqa: S101 - the other engine has its own path
        with self._local.connect() as connection:
            return unit(connection)

    def _truncate_log(self) -> None:
        assert self._local is not None  # noqa: S101 - called for SQLite alone
        for _ in range(20):
            with contextlib.suppress(SQLAlchemyError), self._local.connect() as connection:
                driver: Any = connection.connection.driver_connection
                with contextlib.suppress(sqlite3.OperationalError):
                    busy, _, _ = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                    if not busy:
                        return
            time.sleep(0.05)

    def _checkpoint_forever(self) -> None:
        assert self._local is not None  # noqa: S101 - started for SQLite alone
        while not self._closed.wait(CHECKPOINT_SECONDS):
            with contextlib.suppress(SQLAlchemyError), self._local.connect() as connection:
                driver: Any = connection.connection.driver_connection
                driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _prepare_sqlite(connection: Any, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    for pragma in (
        "busy_timeout=15000",
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
        "secure_delete=ON",
        "wal_autocheckpoint=20000",
        "busy_timeout=20",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # What reads takes no transaction: a unit on the loop cannot be interleaved with a write.
    if connection.get_execution_options().get("alchat_write"):
        driver: Any = connection.connection.driver_connection
        try:
            driver.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise _Busy(str(error)) from None
            raise OperationalError("BEGIN IMMEDIATE", None, error) from None
