"""What was spent this month, day by day, against the budgets there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from itertools import accumulate
from typing import Any

import streamlit as st
from babel.dates import format_date, format_skeleton

from papita_core.usage.budgets import MONTH, usd
from papita_core.vault.service import CredentialInfo
from portal import wiring
from portal.session import require_user
from portal.texts import locale, t, tn
from portal.words import money, plain

HEIGHT = 180
TICK_SECONDS = 10


@st.fragment(run_every=TICK_SECONDS)
def show_spending() -> None:
    """Nothing at all until something was spent or there is a budget."""
    user = require_user("credentials:read", seen=False)
    papita = wiring.services().papita
    today = datetime.now(UTC).date()
    first = today.replace(day=1)
    lines = papita.usage.of(user.actor, "day", since=first, until=today)
    budgets = [item for item in papita.credentials.list(user.actor, limit=200).items if item.budget]
    if not lines and not budgets:
        return
    with st.container(key="dashboard_spending", gap="small"):
        st.subheader(t("Spent this month"), anchor=False)
        total = sum(line.cost_nano for line in lines)
        unpriced = sum(line.unpriced_requests for line in lines)
        said = money(total)
        if unpriced:
            said += " · " + tn(
                "{count} request of unknown price", "{count} requests of unknown price", unpriced
            )
        st.markdown(plain(said))
        by_day = {date.fromisoformat(line.key): usd(line.cost_nano) for line in lines}
        limit = sum(
            usd(item.budget.budget.limit_nano)
            for item in budgets
            if item.budget is not None and item.budget.budget.period == MONTH
        )
        if total:
            st.echarts_chart(
                chart(by_day, today, limit or None),
                height=HEIGHT,
                key="dashboard_chart",
                renderer="svg",
                alt=t("Spent this month, day by day, added up: {total}", total=money(total)),
            )
        for item in budgets:
            _show_budget(item)


def chart(by_day: Mapping[date, float], today: date, limit: float | None) -> dict[str, Any]:
    """Apache ECharts' options: US dollars up to each day of the month, and the month's budget."""
    days = [today.replace(day=number) for number in range(1, today.day + 1)]
    sums = [round(value, 6) for value in accumulate(by_day.get(day, 0.0) for day in days)]
    series: list[dict[str, Any]] = [
        {
            "type": "line",
            "name": t("Spent"),
            "data": sums,
            "step": "end",
            "symbol": "none" if len(days) > 1 else "circle",
            "areaStyle": {"opacity": 0.15},
        }
    ]
    if limit is not None:
        series[0]["markLine"] = {
            "silent": True,
            "symbol": "none",
            "lineStyle": {"type": "dashed"},
            "label": {"formatter": t("Budget"), "position": "insideEndTop"},
            "data": [{"yAxis": limit}],
        }
    # The budget is the top of the picture as long as it is not exceeded.
    top = {} if limit is None or sums[-1] > limit else {"max": limit}
    return {
        "animation": False,
        "grid": {"left": 8, "right": 8, "top": 16, "bottom": 4, "containLabel": True},
        "tooltip": {"trigger": "axis"},
        "xAxis": {"type": "category", "data": _names(days), "boundaryGap": False},
        "yAxis": {"type": "value", "min": 0, "splitNumber": 3, **top},
        "series": series,
    }


def _names(days: Sequence[date]) -> list[str]:
    return [format_skeleton("MMMd", day, locale=locale()) for day in days]


def _show_budget(item: CredentialInfo) -> None:
    spending = item.budget
    if spending is None:
        return
    share = min(1.0, spending.spent_nano / spending.budget.limit_nano)
    words = {
        "label": plain(item.label),
        "spent": plain(money(spending.spent_nano)),
        "limit": plain(money(spending.budget.limit_nano)),
        "anew": plain(format_date(spending.until, format="medium", locale=locale())),
    }
    text = t("**{label}**: {spent} of {limit}, begins anew on {anew}", **words)
    st.progress(share, text=(":red[:material/error:] " if spending.exceeded else "") + text)
