"""Statements that run with every loan: compiled once, run on the driver's own cursor.

SQLAlchemy takes a tenth of a millisecond and more around each execution, however simple, and a loan
has half a dozen of them. What a statement says and how values are converted is SQLAlchemy's here,
too, and so are the transaction, the connection and the errors.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from sqlalchemy import CompoundSelect, Delete, Dialect, Insert, Select, Update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeEngine

Statement = Select[Any] | CompoundSelect[Any] | Insert | Update | Delete
Converter = Callable[[Any], Any] | None


class Prepared:
    """One statement, for both engines. It must have no parameter that is a list to be expanded."""

    def __init__(self, statement: Statement) -> None:
        self._statement = statement
        self._forms: dict[str, _Form] = {}

    def rows(self, session: Session, parameters: Mapping[str, Any]) -> list[Any]:
        """All rows, as named tuples, read in the session's transaction. Raises `DBAPIError`."""
        connection = session.connection()
        form = self._form(connection.dialect)
        cursor = connection.connection.cursor()
        try:
            cursor.execute(form.text, form.parameters(parameters))
            found = cursor.fetchall()
        except form.driver_error as error:
            form.fail(connection, error)
        finally:
            cursor.close()
        return [form.row(values) for values in found]

    def run(self, session: Session, *parameters: Mapping[str, Any]) -> None:
        """Executes it for each of `parameters`, in the session's transaction.

        Raises `DBAPIError`.
        """
        connection = session.connection()
        form = self._form(connection.dialect)
        cursor = connection.connection.cursor()
        try:
            if len(parameters) == 1:
                cursor.execute(form.text, form.parameters(parameters[0]))
            else:
                cursor.executemany(form.text, [form.parameters(each) for each in parameters])
        except form.driver_error as error:
            form.fail(connection, error)
        finally:
            cursor.close()

    def _form(self, dialect: Dialect) -> _Form:
        form = self._forms.get(dialect.name)
        if form is None:
            form = self._forms[dialect.name] = _Form(self._statement, dialect)
        return form


class _Form:
    """A statement in the words of one engine."""

    def __init__(self, statement: Statement, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        assert dialect.loaded_dbapi is not None  # noqa: S101 - there is a connection already
        self.text = str(compiled)
        self.driver_error: type[Exception] = dialect.loaded_dbapi.Error
        self._values = {
            name: (parameter.value, _given(parameter.type, dialect))
            for name, parameter in compiled.binds.items()
        }
        # The driver takes parameters by place where there is an order, else by name.
        self._order = compiled.positiontup
        columns = getattr(statement, "selected_columns", ())
        self._row = _tuple_of([column.key for column in columns])
        self._read = [
            (place, convert)
            for place, column in enumerate(columns)
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
        dialect = connection.dialect
        gone = dialect.is_disconnect(error, None, None)  # type: ignore[arg-type]
        if gone:
            connection.invalidate(error)
        raise DBAPIError.instance(
            self.text,
            None,
            error,
            self.driver_error,
            hide_parameters=True,
            connection_invalidated=gone,
            dialect=dialect,
        ) from None


def _tuple_of(names: list[str]) -> Callable[[Iterable[Any]], Any]:
    made: Any = namedtuple("PreparedRow", names)  # type: ignore[misc]
    make: Callable[[Iterable[Any]], Any] = made._make
    return make


def _given(kind: TypeEngine[Any], dialect: Dialect) -> Converter:
    return kind.dialect_impl(dialect).bind_processor(dialect)


def _found(kind: TypeEngine[Any], dialect: Dialect) -> Converter:
    return kind.dialect_impl(dialect).result_processor(dialect, None)
