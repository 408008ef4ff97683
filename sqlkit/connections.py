"""Connections of a pool that a server may have closed."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry

IDLE = 1.0  # seconds without use after which a connection is asked whether it is still there


def ask_idle_connections(engine: Engine) -> None:
    """Replaces a connection that the server has closed, for instance since it was started anew.

    As the pool's own `pre_ping`, but without the way to the server and back for those that were in
    use a moment ago.
    """

    @event.listens_for(engine, "checkin")
    def _idle(_connection: Any, record: ConnectionPoolEntry) -> None:
        record.info["idle_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _ask(connection: Any, record: ConnectionPoolEntry, _proxy: Any) -> None:
        since = record.info.get("idle_since")
        if since is None or time.monotonic() - since < IDLE:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error:
            raise DisconnectionError from None  # the pool makes another one
