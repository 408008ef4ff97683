"""Errors of a driver in SQLAlchemy's form."""

from __future__ import annotations

from typing import NoReturn

from sqlalchemy import Dialect
from sqlalchemy.exc import DBAPIError


def raise_as_sqlalchemy(
    dialect: Dialect, error: Exception, statement: str | None = None, *, gone: bool = False
) -> NoReturn:
    """Raises SQLAlchemy's form of an error of the driver."""
    assert dialect.loaded_dbapi is not None  # noqa: S101 - there is a connection already
    raise DBAPIError.instance(
        statement,
        None,
        error,
        dialect.loaded_dbapi.Error,
        hide_parameters=True,
        connection_invalidated=gone,
        dialect=dialect,
    ) from None
