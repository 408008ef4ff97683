"""Connections to the own database: `read()` is one snapshot, `write()` one commit.

A writing unit takes SQLite's write lock at its begin (BEGIN IMMEDIATE): with the driver's default,
two writers that read first lose updates without an error. WAL with synchronous=NORMAL keeps each
commit through a kill of this process; through a power cut the last commits may be lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry


class Database:
    """Built once per process; `close()` before the loop ends."""

    def __init__(self, url: str) -> None:
        self.sqlite = make_url(url).get_backend_name() == "sqlite"
        # SQLite makes waiting writers sleep in steps of milliseconds; a queue of our own does not.
        self._turn = asyncio.Lock()
        if self.sqlite:
            self.engine: AsyncEngine = create_async_engine(
                url,
                hide_parameters=True,
                connect_args={"isolation_level": None, "timeout": 15},
                pool_size=8,
                max_overflow=8,
            )
            event.listen(self.engine.sync_engine, "connect", _prepare_sqlite)
            event.listen(self.engine.sync_engine, "begin", _begin_sqlite)
        else:
            self.engine = create_async_engine(
                url, hide_parameters=True, pool_size=10, max_overflow=10, pool_pre_ping=True
            )
        self._writing = self.engine.execution_options(alchat_write=True)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for reading; nothing is committed."""
        async with self.engine.connect() as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """One unit of work: commits at the end of the block, rolls back on an exception."""
        if self.sqlite:
            async with self._turn, self._writing.begin() as connection:
                yield connection
        else:
            async with self._writing.begin() as connection:
                yield connection

    async def ping(self) -> None:
        """Raises whatever the driver raises if the database cannot be reached."""
        async with self.read() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        await self.engine.dispose()


def _prepare_sqlite(connection: Any, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "busy_timeout=15000",
        "foreign_keys=ON",
        "secure_delete=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writing = connection.get_execution_options().get("alchat_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
