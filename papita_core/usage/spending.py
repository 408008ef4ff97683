"""What is spent with a credential, counted from the record into the figures on its row."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime
from typing import Any

from sqlalchemy import bindparam, func, or_, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from papita_core.db import Prepared, among, table_of
from papita_core.usage.budgets import begin, budget_of
from papita_core.usage.models import UsageDay
from papita_core.vault.models import Credential


def recount(session: Session, row: Credential, now: datetime) -> None:
    """Writes what is spent of the row's budget in its present period.

    The caller holds the row for update: who counts second sees what the first one added.
    """
    row.spent_nano, row.spent_unpriced, row.spent_since = _spent(session, row, now)


def recount_all(connection: Connection, ids: Collection[str], now: datetime) -> None:
    """The same for those of these credentials that have a budget; takes their rows for update."""
    rows = _BUDGETS.rows(connection, {"ids": ids})
    counted = [(row.id, *_spent(connection, row, now)) for row in rows]
    if counted:
        names = ("which", "nano", "unpriced", "since")
        _WRITE.run(connection, *(dict(zip(names, each, strict=True)) for each in counted))


def _spent(within: Session | Connection, row: Any, now: datetime) -> tuple[int, int, date | None]:
    """What is spent of the budget on a row, for how many requests nobody knows, and since when."""
    budget = budget_of(row)
    if budget is None:
        return 0, 0, None
    since = begin(budget.period, now)
    given = {"which": row.id, "since": since, "project": budget.project_id}
    found = _SUMS.first(within, given)
    return int(found.cost), int(found.unpriced), since


# Plain tables: every answer ends in a report.
_CREDENTIAL, _DAY = table_of(Credential), table_of(UsageDay)
_BUDGETS = Prepared(
    select(*_CREDENTIAL.c["id", "budget_nano", "budget_period", "budget_project_id"])
    .where(among(_CREDENTIAL.c.id, "ids"), _CREDENTIAL.c.budget_nano.is_not(None))
    .order_by(_CREDENTIAL.c.id)
    .with_for_update()
)
_PROJECT = bindparam("project", type_=_DAY.c.project_id.type)
_SUMS = Prepared(
    select(
        func.coalesce(func.sum(_DAY.c.cost_nano), 0).label("cost"),
        func.coalesce(func.sum(_DAY.c.unpriced_requests), 0).label("unpriced"),
    ).where(
        _DAY.c.credential_id == bindparam("which"),
        _DAY.c.day >= bindparam("since"),
        or_(_PROJECT.is_(None), _DAY.c.project_id == _PROJECT),
    )
)
_WRITE = Prepared(
    update(_CREDENTIAL)
    .where(_CREDENTIAL.c.id == bindparam("which"))
    .values(
        spent_nano=bindparam("nano"),
        spent_unpriced=bindparam("unpriced"),
        spent_since=bindparam("since"),
    )
)
