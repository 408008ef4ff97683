"""PostgreSQL by libpq's own calls, for the few statements of every answer and of every loan.

Around a statement that takes the server a tenth of a millisecond, psycopg's cursor takes as much,
and several times that where the process was asleep before. What a statement says and how values are
converted is SQLAlchemy's and psycopg's here, too, and so are the connection and the errors.
"""

from __future__ import annotations

import re
import select
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import psycopg
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, Format, TransactionStatus

_Connection = TypeVar("_Connection", psycopg.Connection[Any], psycopg.AsyncConnection[Any])
_PLACE = re.compile(r"%(?:\((\w+)\)s|%)")
# What these statements are given, lists as one parameter, makes no difference to how they are best
# planned; and planning one may take longer than running it.
GENERIC_PLANS: Final = "SET plan_cache_mode = force_generic_plan"
_LOST: Final = "the connection to the server was lost"


class Words:
    """The text of a statement as the server takes it: parameters have numbers, not names."""

    def __init__(self, text: str) -> None:
        places: dict[str, int] = {}

        def numbered(found: re.Match[str]) -> str:
            name = found[1]
            return "%" if name is None else f"${places.setdefault(name, len(places) + 1)}"

        self.text: Final = _PLACE.sub(numbered, text).encode()
        self.names: Final = tuple(places)
        self.formats: Final = [PyFormat.AUTO] * len(places)


@dataclass(slots=True)
class Answer:
    """What the server says to one statement, once the exchange has ended without an error."""

    _transformer: Any
    result: Any = None

    @property
    def there(self) -> bool:
        return self.result is not None

    def rows(self) -> list[tuple[Any, ...]]:
        """What it has returned, converted as psycopg's cursors do."""
        self._transformer.set_pgresult(self.result)
        rows: list[tuple[Any, ...]] = self._transformer.load_rows(0, self.result.ntuples, tuple)
        return rows


@dataclass(slots=True)
class _Preparing:
    key: tuple[Words, tuple[int, ...]]
    name: bytes


class Wire(Generic[_Connection]):
    """One `connection`, which nobody else uses meanwhile; nothing here waits.

    After some `put` comes one `send`, and then, each time that the socket is ready, `flush` until
    all is out, and `read` until all is there. Outside of an explicit transaction all of that is
    one. All raise `psycopg.Error`; after one from elsewhere than the end of `read`, and where an
    exchange is given up before its end, the connection can only be closed.
    """

    def __init__(self, connection: _Connection) -> None:
        self.connection: _Connection = connection
        self._pg = connection.pgconn
        self._transformer = Transformer(connection)
        self._names: dict[tuple[Words, tuple[int, ...]], bytes] = {}
        self._count = 0
        self._sent: list[Answer | _Preparing | None] = []
        self._results: list[Any] = []
        self._between = False
        self.socket: Final = self._pg.socket

    @property
    def idle(self) -> bool:
        """Whether the connection is open, in no transaction and in no exchange."""
        return self._pg.transaction_status == TransactionStatus.IDLE

    def alive(self) -> bool:
        """Whether the server has not closed the connection, as far as is known here."""
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        try:
            # The server may have said something, before it closed the connection or without.
            while poll.poll(0):
                self._pg.consume_input()
        except psycopg.Error:
            return False
        return True

    def put(self, words: Words, values: Mapping[str, Any]) -> Answer:
        """One statement, prepared when it first runs with values of these types."""
        given = self._transformer.dump_sequence(
            [values[name] for name in words.names], words.formats
        )
        self._begin()
        types = self._transformer.types or ()
        key = words, types
        name = self._names.get(key)
        if name is None:
            self._count += 1
            name = b"wire_%d" % self._count
            self._pg.send_prepare(name, words.text, types)
            self._sent.append(_Preparing(key, name))
        formats = self._transformer.formats
        self._pg.send_query_prepared(name, given, formats, Format.TEXT)
        answer = Answer(self._transformer)
        self._sent.append(answer)
        return answer

    def command(self, text: bytes) -> None:
        """A statement without parameters of which nothing is wanted: BEGIN, COMMIT."""
        self._begin()
        self._pg.send_query_params(text, None)
        self._sent.append(None)

    def send(self) -> None:
        self._pg.pipeline_sync()

    def flush(self) -> bool:
        """Whether all is out."""
        return not self._pg.flush()

    def read(self) -> bool:
        """Whether all is there. At the end, raises the first error that the server has told."""
        self._pg.consume_input()
        while not self._pg.is_busy():
            result = self._pg.get_result()
            if result is None:
                # One between the results; more where nothing will come any more.
                if self._between:
                    raise psycopg.OperationalError(_LOST)
                self._between = True
                continue
            self._between = False
            if result.status == ExecStatus.PIPELINE_SYNC:
                self._end()
                return True
            self._results.append(result)
        return False

    def _begin(self) -> None:
        if not self._sent:
            self._pg.enter_pipeline_mode()

    def _end(self) -> None:
        self._pg.exit_pipeline_mode()
        sent, results = self._sent, self._results
        self._sent, self._results = [], []
        for one, result in zip(sent, results, strict=True):
            if result.status == ExecStatus.FATAL_ERROR:
                # What comes after it was not tried.
                raise error_from_result(result)
            if isinstance(one, _Preparing):
                self._names[one.key] = one.name
            elif one is not None:
                one.result = result
