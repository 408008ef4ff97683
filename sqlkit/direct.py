"""PostgreSQL below SQLAlchemy, for the few statements of every answer.

Around a statement that takes a tenth of a millisecond, SQLAlchemy's asynchronous connection takes
half a one: to be had from the pool, to begin, to switch between greenlets, to be reset. What a
statement says and how values are converted is SQLAlchemy's here, too (`sqlkit.prepared`), and so
are the errors; the connections are the driver's own. `commit` is one way to the server and back.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import islice
from typing import Any

import psycopg
from sqlalchemy import URL, Dialect

from sqlkit.errors import raise_as_sqlalchemy
from sqlkit.prepared import Form, Many, Prepared
from sqlkit.wire import GENERIC_PLANS, Wire, Words

Change = tuple[Many, Sequence[Mapping[str, Any]]]

_NAME = re.compile(r"%\((\w+)\)s")
_Wire = Wire[psycopg.AsyncConnection[Any]]


class _Joined:
    """Changes of different tables, as one statement."""

    def __init__(self, changes: Sequence[Many], dialect: Dialect, lasting: bool) -> None:
        self._changes = [(many, many.form(dialect)) for many in changes]
        self.size = len(changes)
        self._joined = self.size > 1 or not lasting
        text = self._changes[0][1].text
        if self._joined:
            parts = [
                f"change_{place} AS ({_NAME.sub(_numbered(place), form.text)})"
                for place, (_, form) in enumerate(self._changes)
            ]
            # PostgreSQL makes what nothing is read of from the last to the first.
            text = f"WITH {', '.join(reversed(parts))} SELECT"
        if not lasting:
            # Until the transaction ends.
            text += " set_config('synchronous_commit', 'off', true)"
        self._words = Words(text)

    def of(self, given: Sequence[Sequence[Mapping[str, Any]]]) -> tuple[Words, dict[str, Any]]:
        """Statement and parameters for the rows of each change."""
        values = [
            form.parameters(many.parameters(rows))
            for (many, form), rows in zip(self._changes, given, strict=True)
        ]
        if not self._joined:
            return self._words, values[0]
        return self._words, {
            f"{name}_{place}": value
            for place, each in enumerate(values)
            for name, value in each.items()
        }


def _numbered(place: int) -> str:
    return rf"%(\g<1>_{place})s"


class Direct:
    """For one event loop; `size` connections at most, opened when they are needed."""

    def __init__(self, url: URL, dialect: Dialect, *, size: int = 6) -> None:
        self._url = url
        self._dialect = dialect
        self._arguments = dialect.create_connect_args(url)
        self._free = asyncio.Semaphore(size)
        self._idle: list[_Wire] = []
        self._closed = False
        self._joined: dict[tuple[tuple[Many, ...], bool], list[_Joined]] = {}

    async def rows(
        self, statement: Prepared | Many, given: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    ) -> list[Any]:
        """All rows, as named tuples, of what is committed. Raises `DBAPIError`."""
        form, parameters = self._prepared(statement, given)
        async with self._wire() as wire:
            answer = wire.put(form.words, parameters)
            await _exchange(wire)
            return form.rows(answer.rows())

    async def commit(self, changes: Sequence[Change], *, lasting: bool = True) -> None:
        """Makes all changes in one transaction, or none. Raises `DBAPIError`.

        What is not `lasting` is not waited for until it is on the server's disk: if the server
        itself breaks down, up to a second of that may be lost, in order, and nothing by halves.
        """
        wanted = [(many, given) for many, given in changes if given]
        if not wanted:
            return
        rows = iter([given for _, given in wanted])
        each = [
            one.of(list(islice(rows, one.size)))
            for one in self._statements(tuple(many for many, _ in wanted), lasting)
        ]
        async with self._wire() as wire:
            for words, values in each:
                wire.put(words, values)
            await _exchange(wire)

    async def close(self) -> None:
        self._closed = True
        while self._idle:
            await self._idle.pop().connection.close()

    def _prepared(self, statement: Prepared | Many, given: Any) -> tuple[Form, Any]:
        form = statement.form(self._dialect)
        if isinstance(statement, Many):
            given = statement.parameters(given)
        return form, form.parameters(given)

    def _statements(self, wanted: tuple[Many, ...], lasting: bool) -> list[_Joined]:
        """As few statements as make these changes, one after the other where they meet."""
        made = self._joined.get((wanted, lasting))
        if made is None:
            groups: list[list[Many]] = [[]]
            for many in wanted:
                if any(many.tables & other.tables for other in groups[-1]):
                    groups.append([])
                groups[-1].append(many)
            made = [_Joined(group, self._dialect, lasting) for group in groups]
            self._joined[wanted, lasting] = made
        return made

    @contextlib.asynccontextmanager
    async def _wire(self) -> AsyncIterator[_Wire]:
        """One that nobody else uses, outside of a transaction and with none left behind."""
        async with self._free:
            wire: _Wire | None = None
            try:
                wire = await self._living() or await self._open()
                yield wire
            except psycopg.Error as error:
                gone = wire is None or wire.connection.closed
                raise_as_sqlalchemy(self._dialect, error, gone=gone)
            finally:
                if wire is not None:
                    await self._put_back(wire)

    async def _living(self) -> _Wire | None:
        """One that was used before; what the server has closed since is left out."""
        while self._idle:
            wire = self._idle.pop()
            if wire.alive():
                return wire
            await wire.connection.close()
        return None

    async def _open(self) -> _Wire:
        places, names = self._arguments
        opened: psycopg.AsyncConnection[Any] = await psycopg.AsyncConnection.connect(
            *places, **{**names, "autocommit": True}
        )
        await opened.execute(GENERIC_PLANS)
        return Wire(opened)

    async def _put_back(self, wire: _Wire) -> None:
        # Whoever was cancelled may have left an answer on its way.
        if wire.idle and not self._closed:
            self._idle.append(wire)
        else:
            await wire.connection.close()


async def _exchange(wire: _Wire) -> None:
    """Sends what was put, and returns when all is there."""
    loop = asyncio.get_running_loop()
    wire.send()
    out = wire.flush()
    try:
        while True:
            ready = loop.create_future()
            loop.add_reader(wire.socket, _ready, ready)
            if not out:
                loop.add_writer(wire.socket, _ready, ready)
            await ready
            if not out:
                loop.remove_writer(wire.socket)
                out = wire.flush()
            if wire.read():
                return
    finally:
        loop.remove_reader(wire.socket)
        if not out:
            loop.remove_writer(wire.socket)


def _ready(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
