"""Transactions on PostgreSQL whose statements go to the server together, for a thread."""

from __future__ import annotations

import contextlib
import select
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import psycopg
from sqlalchemy import URL, Dialect

from sqlkit.errors import raise_as_sqlalchemy
from sqlkit.wire import GENERIC_PLANS, Wire

if TYPE_CHECKING:
    from sqlkit.prepared import Form

_Wire = Wire[psycopg.Connection[Any]]


class Transaction:
    """What `Transactions.begin` hands out, for one thread.

    `ask` and `run` wait for nothing: what `run` raises may come only later. Of what `ask` has
    returned, the first that is called waits, for the answers to all that was asked before.
    """

    def __init__(self, wire: _Wire, dialect: Dialect) -> None:
        self._wire = wire
        self.dialect = dialect

    def ask(self, form: Form, parameters: Mapping[str, Any]) -> Callable[[], list[Any]]:
        """The rows, later. Raises `psycopg.Error`, and so does what it returns."""
        answer = self._wire.put(form.words, form.parameters(parameters))

        def rows() -> list[Any]:
            if not answer.there:
                self.exchange()
            return form.rows(answer.rows())

        return rows

    def run(self, form: Form, parameters: Mapping[str, Any]) -> None:
        self._wire.put(form.words, form.parameters(parameters))

    def command(self, text: bytes) -> None:
        self._wire.command(text)

    def exchange(self) -> None:
        """Sends what was put, and returns when all is there."""
        wire = self._wire
        wire.send()
        out = wire.flush()
        poll = select.poll()
        while True:
            poll.register(wire.socket, select.POLLIN if out else select.POLLIN | select.POLLOUT)
            poll.poll()
            if not out:
                out = wire.flush()
            if wire.read():
                return


class Transactions:
    """For any number of threads; opens connections of its own when they are needed."""

    def __init__(self, url: URL, dialect: Dialect) -> None:
        self._arguments = dialect.create_connect_args(url)
        self._dialect = dialect
        # What is used last has the most statements prepared.
        self._idle: list[_Wire] = []
        self._closed = False

    @contextlib.contextmanager
    def begin(self) -> Iterator[Transaction]:
        """Commits at the end of the block, together with what it has put last; else, nothing of it
        is done. Raises `DBAPIError`.
        """
        wire: _Wire | None = None
        done = False
        try:
            wire = self._living() or self._open()
            transaction = Transaction(wire, self._dialect)
            transaction.command(b"BEGIN")
            yield transaction
            transaction.command(b"COMMIT")
            transaction.exchange()
            done = True
        except psycopg.Error as error:
            gone = wire is None or wire.connection.closed
            raise_as_sqlalchemy(self._dialect, error, gone=gone)
        finally:
            if wire is not None:
                self._put_back(wire, done)

    def close(self) -> None:
        self._closed = True
        while self._idle:
            self._idle.pop().connection.close()

    def _living(self) -> _Wire | None:
        """One that was used before; what the server has closed since is left out."""
        # Another thread may take the last one in any moment.
        with contextlib.suppress(IndexError):
            while True:
                wire = self._idle.pop()
                if wire.alive():
                    return wire
                wire.connection.close()
        return None

    def _open(self) -> _Wire:
        places, names = self._arguments
        opened = psycopg.connect(*places, **{**names, "autocommit": True})
        opened.execute(GENERIC_PLANS)
        return Wire(opened)

    def _put_back(self, wire: _Wire, done: bool) -> None:
        if done and wire.idle and not self._closed:
            self._idle.append(wire)
        else:
            # The server gives up what was begun.
            wire.connection.close()
