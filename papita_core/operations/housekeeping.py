"""Housekeeping: takes away what has ended, and rotates the signing key when it is due.

Everything goes in small batches, each a transaction of its own, so that nobody waits for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, Table, delete, or_, select, tuple_

from papita_core.clock import Clock, utc_now
from papita_core.db import Base, Database, table_of
from papita_core.grants.models import LeaseRow
from papita_core.usage.models import UsageReport
from papita_core.users.models import (
    AttemptCounter,
    OidcAttempt,
    OneTimeLink,
    SessionRow,
    SetupCodeRow,
)
from papita_core.vault.models import IdempotentRequest

log = logging.getLogger(__name__)

# So long afterwards a project may still report what it spent with what was lent on a lease.
LEASES_STAY = timedelta(days=7)
REPORTS_STAY = timedelta(days=30)
SESSIONS_STAY = timedelta(days=30)
# So long administrators see what became of a link.
LINKS_STAY = timedelta(days=30)
REQUESTS_STAY = timedelta(hours=24)
AT_ONCE = 500
EVERY = 3600.0


@dataclass(frozen=True, slots=True)
class Housekeeping:
    """One round of tidying up. `rotate_if_due` sees to the signing key."""

    database: Database
    rotate_if_due: Callable[[], object]
    clock: Clock = utc_now

    def run_once(self) -> dict[str, int]:
        """How many rows of each table went."""
        now = self.clock()
        leases_before, sessions_before = now - LEASES_STAY, now - SESSIONS_STAY
        links_before = now - LINKS_STAY
        ended: tuple[tuple[type[Base], ColumnElement[bool]], ...] = (
            (
                LeaseRow,
                or_(LeaseRow.expires_at < leases_before, LeaseRow.revoked_at < leases_before),
            ),
            (
                SessionRow,
                or_(SessionRow.expires_at < sessions_before, SessionRow.ended_at < sessions_before),
            ),
            (IdempotentRequest, IdempotentRequest.created_at < now - REQUESTS_STAY),
            (SetupCodeRow, SetupCodeRow.expires_at <= now),
            (AttemptCounter, AttemptCounter.expires_at <= now),
            (OidcAttempt, OidcAttempt.expires_at <= now),
            (
                OneTimeLink,
                or_(
                    OneTimeLink.expires_at < links_before,
                    OneTimeLink.used_at < links_before,
                    OneTimeLink.revoked_at < links_before,
                ),
            ),
            (UsageReport, UsageReport.received_at < now - REPORTS_STAY),
        )
        gone = {model.__tablename__: self._delete(table_of(model), which) for model, which in ended}
        self.rotate_if_due()
        return gone

    def _delete(self, table: Table, which: ColumnElement[bool]) -> int:
        key = tuple_(*table.primary_key.columns)
        # Of several portals that tidy up at once, each takes what the others leave.
        some = (
            select(*table.primary_key.columns)
            .where(which)
            .limit(AT_ONCE)
            .with_for_update(skip_locked=True)
        )
        count = 0
        while True:
            with self.database.write() as session:
                ids = [tuple(row) for row in session.execute(some)]
                session.execute(delete(table).where(key.in_(ids)))
            count += len(ids)
            if len(ids) < AT_ONCE:
                return count


class Housekeeper:
    """Runs the housekeeping on a thread of its own. `start` once, `close` at the end."""

    def __init__(self, housekeeping: Housekeeping) -> None:
        self._housekeeping = housekeeping
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, every: float = EVERY) -> None:
        """The first round begins now, the next ones `every` seconds after the last has ended."""
        if self._thread is None and not self._closed.is_set():
            self._thread = threading.Thread(
                target=self._run, args=(every,), name="papita-housekeeping", daemon=True
            )
            self._thread.start()

    def run_once(self) -> dict[str, int]:
        return self._housekeeping.run_once()

    def close(self) -> None:
        """Returns when no round is running any more."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, every: float) -> None:
        while not self._closed.is_set():
            try:
                gone = self._housekeeping.run_once()
                log.info("housekeeping took away %s", gone)
            except Exception:
                log.exception("the housekeeping failed; it is tried again later")
            self._closed.wait(every)
