"""What is spent with a credential, counted from the record into the figures on its row."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from papita_core.usage.budgets import begin, budget_of
from papita_core.usage.models import UsageDay
from papita_core.vault.models import Credential


def recount(session: Session, row: Credential, now: datetime) -> None:
    """Writes what is spent of the row's budget in its present period.

    The caller holds the row for update: who counts second sees what the first one added.
    """
    budget = budget_of(row)
    if budget is None:
        row.spent_nano, row.spent_unpriced, row.spent_since = 0, 0, None
        return
    since = begin(budget.period, now)
    query = select(
        func.coalesce(func.sum(UsageDay.cost_nano), 0),
        func.coalesce(func.sum(UsageDay.unpriced_requests), 0),
    ).where(UsageDay.credential_id == row.id, UsageDay.day >= since)
    if budget.project_id is not None:
        query = query.where(UsageDay.project_id == budget.project_id)
    spent, unpriced = session.execute(query).one()
    row.spent_nano, row.spent_unpriced, row.spent_since = int(spent), int(unpriced), since
