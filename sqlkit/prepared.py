"""Statements that run with every request: compiled once, run on the driver's own cursor.

SQLAlchemy takes a tenth of a millisecond and more around each execution, however simple, and a loan
or a message has half a dozen of them. What a statement says and how values are converted is
SQLAlchemy's here, too, and so are the transaction, the connection and the errors.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NoReturn

import orjson
from sqlalchemy import (
    JSON,
    Column,
    CompoundSelect,
    Delete,
    Dialect,
    Insert,
    Select,
    Table,
    Text,
    Update,
    bindparam,
    cast,
    func,
    insert,
    select,
)
from sqlalchemy import column as column_named
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session
from sqlalchemy.sql import visitors
from sqlalchemy.types import TypeEngine

from sqlkit.errors import raise_as_sqlalchemy
from sqlkit.transactions import Transaction
from sqlkit.wire import Words

Statement = Select[Any] | CompoundSelect[Any] | Insert | Update | Delete
Within = Session | Connection | Transaction
Converter = Callable[[Any], Any] | None


class Prepared:
    """One statement, for every engine. It must have no parameter that is a list to be expanded.

    `columns` are those that an insert sets, where it does not set all: the others get what the
    database gives them.
    """

    def __init__(self, statement: Statement, columns: Sequence[str] | None = None) -> None:
        self._statement = statement
        self._columns = columns
        self._forms: dict[tuple[str, bool], Form] = {}

    def rows(self, within: Within, parameters: Mapping[str, Any]) -> list[Any]:
        """All rows, as named tuples, read in the transaction `within`. Raises `DBAPIError`."""
        return self.ask(within, parameters)()

    def ask(self, within: Within, parameters: Mapping[str, Any]) -> Callable[[], list[Any]]:
        """As `rows`, which what is returned returns: in a `Transaction` nothing waits before.

        It has to be called once, before the transaction ends.
        """
        if isinstance(within, Transaction):
            return within.ask(self.form(within.dialect), parameters)
        connection = within if isinstance(within, Connection) else within.connection()
        form = self.form(connection.dialect)
        cursor = connection.connection.cursor()
        try:
            cursor.execute(form.text, form.parameters(parameters), **form.options)
        except form.driver_error as error:
            cursor.close()
            form.fail(connection, error)

        def rows() -> list[Any]:
            try:
                return form.rows(cursor.fetchall())
            except form.driver_error as error:
                form.fail(connection, error)
            finally:
                cursor.close()

        return rows

    def first(self, within: Within, parameters: Mapping[str, Any]) -> Any:
        """The first row, None if there is none; else as `rows`."""
        found = self.rows(within, parameters)
        return found[0] if found else None

    def run(self, within: Within, *parameters: Mapping[str, Any]) -> int:
        """Executes it for each of `parameters`, in the transaction `within`; how many rows that
        reached, -1 in a `Transaction`, where that is not known yet. Raises `DBAPIError`.
        """
        if isinstance(within, Transaction):
            for each in parameters:
                within.run(self.form(within.dialect), each)
            return -1
        connection = within if isinstance(within, Connection) else within.connection()
        form = self.form(connection.dialect)
        cursor = connection.connection.cursor()
        try:
            if len(parameters) == 1:
                cursor.execute(form.text, form.parameters(parameters[0]), **form.options)
            else:
                cursor.executemany(form.text, [form.parameters(each) for each in parameters])
            reached: int = cursor.rowcount
        except form.driver_error as error:
            form.fail(connection, error)
        finally:
            cursor.close()
        return reached

    def form(self, dialect: Dialect) -> Form:
        """The statement in the words of one engine, for whoever has a cursor of the driver."""
        kind = dialect.name, dialect.is_async
        form = self._forms.get(kind)
        if form is None:
            form = self._forms[kind] = Form(self._statement, self._columns, dialect)
        return form


class Many:
    """One statement for any number of rows, which are given as mappings.

    Where a database lies behind a network, each execution is what costs: there the rows go as one
    parameter, JSON, and the statement is executed once over all of them. SQLite takes them one by
    one. `build` gets the values of a row by name, as columns or parameters of these `kinds`, and
    makes the statement; what it selects must name the row that it belongs to. `tables` are all that
    the statement names.
    """

    def __init__(
        self, build: Callable[[Any], Statement], kinds: Mapping[str, TypeEngine[Any]]
    ) -> None:
        given = {name: bindparam(name, type_=kind) for name, kind in kinds.items()}
        self._one = Prepared(build(SimpleNamespace(**given)))
        columns = [column_named(name, kind) for name, kind in kinds.items()]
        recordset = func.json_to_recordset(cast(bindparam("rows", type_=Text), JSON))
        named = recordset.table_valued(*columns, name="given").render_derived(with_types=True)
        over_all = build(named.c)
        self.tables = frozenset(
            part for part in visitors.iterate(over_all) if isinstance(part, Table)
        )
        self._all = Prepared(over_all)
        # Of columns, they are a kind of string that JSON does not take.
        self._names = tuple(map(str, kinds))

    @classmethod
    def insert(cls, table: Table, names: Sequence[str] | None = None) -> Many:
        """Adds rows to `table`; all columns but `names` get what the database gives them."""
        columns: list[Column[Any]] = [table.c[name] for name in names or table.c.keys()]
        kinds = {column.name: column.type for column in columns}

        def build(values: Any) -> Statement:
            each = [getattr(values, name) for name in kinds]
            return insert(table).from_select(list(kinds), select(*each))

        made = cls(build, kinds)
        made._one = Prepared(insert(table), list(kinds))
        return made

    def rows(self, within: Connection, given: Sequence[Mapping[str, Any]]) -> list[Any]:
        """What is found for all of `given`. Raises `DBAPIError`."""
        if within.dialect.name == "postgresql":
            return self._all.rows(within, self.parameters(given))
        return [row for one in given for row in self._one.rows(within, one)]

    def run(self, within: Connection, *given: Mapping[str, Any]) -> None:
        """Executes it for each of `given`, in the transaction `within`. Raises `DBAPIError`."""
        if within.dialect.name == "postgresql":
            self._all.run(within, self.parameters(given))
        else:
            self._one.run(within, *given)

    def form(self, dialect: Dialect) -> Form:
        """The statement over all rows at once, for `parameters`."""
        return self._all.form(dialect)

    def parameters(self, given: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """All rows as the one parameter of `form`."""
        names = self._names
        rows = [{name: one[name] for name in names} for one in given]
        return {"rows": orjson.dumps(rows).decode()}


class Form:
    """A statement in the words of one engine."""

    def __init__(
        self, statement: Statement, columns: Sequence[str] | None, dialect: Dialect
    ) -> None:
        compiled = statement.compile(
            dialect=dialect, column_keys=None if columns is None else list(columns)
        )
        assert dialect.loaded_dbapi is not None  # noqa: S101 - there is a connection already
        self.text = str(compiled)
        self.words = Words(self.text)
        # psycopg would prepare it only once it has run a few times, as it does where SQLAlchemy's
        # asynchronous cursor does not let one say so.
        says_so = dialect.driver == "psycopg" and not dialect.is_async
        self.options = {"prepare": True} if says_so else {}
        self.driver_error: type[Exception] = dialect.loaded_dbapi.Error
        self._values = {
            name: (parameter.value, _given(parameter.type, dialect))
            for name, parameter in compiled.binds.items()
        }
        # The driver takes parameters by place where there is an order, else by name.
        self._order = compiled.positiontup
        selected = getattr(statement, "selected_columns", ())
        self._row = _tuple_of([column.key for column in selected])
        self._read = [
            (place, convert)
            for place, column in enumerate(selected)
            if (convert := _found(column.type, dialect)) is not None
        ]

    def parameters(self, given: Mapping[str, Any]) -> Any:
        values = {
            name: given.get(name, value) if convert is None else convert(given.get(name, value))
            for name, (value, convert) in self._values.items()
        }
        return values if self._order is None else [values[name] for name in self._order]

    def row(self, values: Any) -> Any:
        if self._read:
            values = list(values)
            for place, convert in self._read:
                values[place] = convert(values[place])
        return self._row(values)

    def fail(self, connection: Connection, error: Exception) -> NoReturn:
        _fail(connection, error, self.text)

    def rows(self, found: Iterable[Any]) -> list[Any]:
        """What a cursor has fetched, as named tuples."""
        return [self.row(values) for values in found]


def _fail(connection: Connection, error: Exception, statement: str | None) -> NoReturn:
    """Raises what SQLAlchemy would."""
    dialect = connection.dialect
    gone = dialect.is_disconnect(error, None, None)  # type: ignore[arg-type]
    if gone:
        connection.invalidate(error)
    raise_as_sqlalchemy(dialect, error, statement, gone=gone)


def _tuple_of(names: list[str]) -> Callable[[Iterable[Any]], Any]:
    made: Any = namedtuple("PreparedRow", names)  # type: ignore[misc]
    make: Callable[[Iterable[Any]], Any] = made._make
    return make


def _given(kind: TypeEngine[Any], dialect: Dialect) -> Converter:
    return kind.dialect_impl(dialect).bind_processor(dialect)


def _found(kind: TypeEngine[Any], dialect: Dialect) -> Converter:
    return kind.dialect_impl(dialect).result_processor(dialect, None)
