"""Transactions on PostgreSQL whose statements go to the server together, for a thread."""

from __future__ import annotations

import contextlib
import select
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import URL, Dialect

from sqlkit.errors import raise_as_sqlalchemy
from sqlkit.wire import GENERIC_PLANS, Wire

if TYPE_CHECKING:
    from sqlkit.prepared import Form


class Transaction:
    """What `Transactions.begin` hands out, for one thread.

    `ask` and `run` wait for nothing: what `run` raises may come only later. Of what `ask` has
    returned, the first that is called waits, for the answers to all that was asked before.
    """

    def __init__(self, wire: Wire, dialect: Dialect) -> None:
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


@dataclass(frozen=True, slots=True)
class _Kept:
    connection: psycopg.Connection[Any]
    wire: Wire


class Transactions:
    """For any number of threads; opens connections of its own when they are needed."""

    def __init__(self, url: URL, dialect: Dialect) -> None:
        self._arguments = dialect.create_connect_args(url)
        self._dialect = dialect
        # What is used last has the most statements prepared.
        self._idle: list[_Kept] = []
        self._closed = False

    @contextlib.contextmanager
    def begin(self) -> Iterator[Transaction]:
        """Commits at the end of the block, together with what it has put last; else, nothing of it
        is done. Raises `DBAPIError`.
        """
        kept: _Kept | None = None
        done = False
        try:
            kept = self._living() or self._open()
            transaction = Transaction(kept.wire, self._dialect)
            transaction.command(b"BEGIN")
            yield transaction
            transaction.command(b"COMMIT")
            transaction.exchange()
            done = True
        except psycopg.Error as error:
            gone = kept is None or kept.connection.closed
            raise_as_sqlalchemy(self._dialect, error, gone=gone)
        finally:
            if kept is not None:
                self._put_back(kept, done)

    def close(self) -> None:
        self._closed = True
        while self._idle:
            self._idle.pop().connection.close()

    def _living(self) -> _Kept | None:
        """One that was used before; what the server has closed since is left out."""
        # Another thread may take the last one in any moment.
        with contextlib.suppress(IndexError):
            while True:
                kept = self._idle.pop()
                if kept.wire.alive():
                    return kept
                kept.connection.close()
        return None

    def _open(self) -> _Kept:
        places, names = self._arguments
        opened = psycopg.connect(*places, **{**names, "autocommit": True})
        opened.execute(GENERIC_PLANS)
        return _Kept(opened, Wire(opened))

    def _put_back(self, kept: _Kept, done: bool) -> None:
        if done and not self._closed and kept.wire.status == TransactionStatus.IDLE:
            self._idle.append(kept)
        else:
            # The server gives up what was begun.
            kept.connection.close()
