"""Whose turn it is to rotate: one process at a time, and the lock goes when its holder does.

Rotation is safe without it. With it, two do not do the work of one, and everybody can tell a
rotation that is going on from one that was interrupted.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from papita_core.db import Database
from papita_core.errors import RotationRunning

LOCK = 0x70617072  # any number that other programs do not use as advisory lock
TRIES = 10  # whoever looks whether the lock is held holds it for a moment


@contextmanager
def turn(database: Database) -> Iterator[None]:
    """Holds the turn. Raises `RotationRunning` where another thread or process has it."""
    with _of_file(database) if database.is_sqlite else _of_server(database):
        yield


def is_taken(database: Database) -> bool:
    """Whether somebody rotates at this moment."""
    if not database.is_sqlite:
        with database.look() as connection:
            found = connection.scalar(
                text(
                    "SELECT count(*) FROM pg_locks JOIN pg_database ON oid = database"
                    " WHERE locktype = 'advisory' AND objid = :lock"
                    " AND datname = current_database()"
                ),
                {"lock": LOCK},
            )
        return bool(found)
    try:
        descriptor = os.open(_path(database), os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def _of_file(database: Database) -> Iterator[None]:
    # A file of its own: closing the database's file would drop SQLite's locks on it.
    descriptor = os.open(_path(database), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for left in reversed(range(TRIES)):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not left:
                    raise RotationRunning from None
                time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _of_server(database: Database) -> Iterator[None]:
    engine = database.engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        if not connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LOCK}):
            raise RotationRunning
        try:
            yield
        finally:
            try:
                connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": LOCK})
            except DBAPIError:  # the connection is gone, and the lock with it
                connection.invalidate()


def _path(database: Database) -> str:
    return f"{database.url.database}.rotation"
