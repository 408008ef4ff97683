"""PostgreSQL below SQLAlchemy, for the few statements of every answer.

Around a statement that takes a tenth of a millisecond, SQLAlchemy's asynchronous connection takes
half a one: to be had from the pool, to begin, to switch between greenlets, to be reset. What a
statement says and how values are converted is SQLAlchemy's here, too (`sqlkit.prepared`), and so
are the errors; the connections are the driver's own. `commit` is one way to the server and back.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import URL, Dialect

from sqlkit.connections import IDLE
from sqlkit.prepared import Form, Many, Prepared, raise_as_sqlalchemy

Change = tuple[Many, Sequence[Mapping[str, Any]]]

_Connection = psycopg.AsyncConnection[Any]


class Direct:
    """For one event loop; `size` connections at most, opened when they are needed."""

    def __init__(self, url: URL, dialect: Dialect, *, size: int = 6) -> None:
        self._url = url
        self._dialect = dialect
        self._arguments = dialect.create_connect_args(url)
        self._free = asyncio.Semaphore(size)
        self._idle: list[tuple[_Connection, float]] = []
        self._closed = False

    async def rows(
        self, statement: Prepared | Many, given: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    ) -> list[Any]:
        """All rows, as named tuples, of what is committed. Raises `DBAPIError`."""
        form, parameters = self._prepared(statement, given)
        async with self._connection() as connection:
            cursor = await connection.execute(form.text, parameters)
            return form.rows(await cursor.fetchall())

    async def commit(self, changes: Sequence[Change]) -> None:
        """Makes all changes in one transaction, or none. Raises `DBAPIError`."""
        each = [self._prepared(many, given) for many, given in changes if given]
        if not each:
            return
        async with self._connection() as connection:
            if len(each) == 1:
                # A statement by itself is a transaction.
                await connection.execute(each[0][0].text, each[0][1])
                return
            async with connection.pipeline():
                await connection.execute("BEGIN")
                for form, parameters in each:
                    await connection.execute(form.text, parameters)
                await connection.execute("COMMIT")

    async def close(self) -> None:
        self._closed = True
        while self._idle:
            await self._idle.pop()[0].close()

    def _prepared(self, statement: Prepared | Many, given: Any) -> tuple[Form, Any]:
        form = statement.form(self._dialect)
        if isinstance(statement, Many):
            given = statement.parameters(given)
        return form, form.parameters(given)

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[_Connection]:
        """One that nobody else uses, outside of a transaction and with none left behind."""
        async with self._free:
            connection: _Connection | None = None
            try:
                connection = await self._living() or await self._open()
                yield connection
            except psycopg.Error as error:
                gone = connection is None or connection.closed
                raise_as_sqlalchemy(self._dialect, error, gone=gone)
            finally:
                if connection is not None:
                    await self._put_back(connection)

    async def _living(self) -> _Connection | None:
        """One that was used before; what the server has closed since is left out."""
        while self._idle:
            connection, since = self._idle.pop()
            if time.monotonic() - since < IDLE:
                return connection
            try:
                await connection.execute("SELECT 1")
            except psycopg.Error:
                await connection.close()
            except BaseException:
                await connection.close()
                raise
            else:
                return connection
        return None

    async def _open(self) -> _Connection:
        places, names = self._arguments
        opened: _Connection = await psycopg.AsyncConnection.connect(
            *places, **{**names, "autocommit": True}
        )
        return opened

    async def _put_back(self, connection: _Connection) -> None:
        status = connection.info.transaction_status
        if status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            with contextlib.suppress(psycopg.Error):
                await connection.rollback()
            status = connection.info.transaction_status
        # Whoever was cancelled may have left an answer on its way.
        if self._closed or connection.closed or status != TransactionStatus.IDLE:
            await connection.close()
        else:
            self._idle.append((connection, time.monotonic()))
