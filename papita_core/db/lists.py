"""Membership in a list that is one parameter.

`column.in_(bindparam(..., expanding=True))` is another statement for every length: it is put
together anew at each execution, and no driver can keep it prepared. For the few statements that run
with every loan this costs more than the database does.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from sqlalchemy import (
    ARRAY,
    BindParameter,
    Boolean,
    ColumnElement,
    Dialect,
    String,
    Text,
    bindparam,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import TypeDecorator, TypeEngine


class StringList(TypeDecorator[Collection[str]]):
    """A parameter that is a list of strings: an array on PostgreSQL, JSON text on SQLite."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        kind: TypeEngine[Any] = Text() if dialect.name == "sqlite" else ARRAY(String)
        return dialect.type_descriptor(kind)

    def process_bind_param(self, value: Collection[str] | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        return json.dumps(list(value)) if dialect.name == "sqlite" else list(value)


class _Among(FunctionElement[bool]):
    type = Boolean()
    inherit_cache = True
    name = "among"

    def self_group(self, against: OperatorType | None = None) -> Any:
        # A comparison already: where there are no booleans, "= 1" after it would hide the index.
        return self


def among(column: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
    """Whether a string column is in the list that is given, at execution, as this parameter."""
    values: BindParameter[Collection[str]] = bindparam(parameter, type_=StringList())
    return _Among(column, values)


@compiles(_Among, "sqlite")
def _in_json(element: _Among, compiler: SQLCompiler, **kw: Any) -> str:
    column, values = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({values}))"  # noqa: S608 - from the compiler


@compiles(_Among, "postgresql")
def _any_of_array(element: _Among, compiler: SQLCompiler, **kw: Any) -> str:
    column, values = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"{column} = ANY ({values})"
