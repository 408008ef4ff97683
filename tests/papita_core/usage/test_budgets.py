"""What projects spend, as they report it, and budgets that end the lending."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import event
from starlette.testclient import TestClient

from papita_core.actors import Actor
from papita_core.audit.service import AuditFilter
from papita_core.errors import BudgetExceeded, InvalidInput
from papita_core.grants.lending import Loan
from papita_core.usage.budgets import (
    DAY,
    MONTH,
    NANO,
    Budget,
    in_words,
    nano,
    refusal,
    spending_of,
    usd,
)
from papita_core.usage.service import Record
from papita_core.vault.service import ReplaceCredential
from tests.papita_core.house import CLIENT_SECRET, House, at_once, both_engines

CLIENT = ("al-chat", CLIENT_SECRET)
NOON = datetime(2027, 1, 31, 12, tzinfo=UTC)


def row(**values: Any) -> SimpleNamespace:
    bare = {
        "budget_nano": 5 * NANO,
        "budget_period": MONTH,
        "budget_project_id": None,
        "spent_nano": 0,
        "spent_unpriced": 0,
        "spent_since": date(2027, 1, 1),
    }
    return SimpleNamespace(**bare | values)


@pytest.mark.parametrize(
    ("spent", "warning", "refused"), [(3.99, False, False), (4.0, True, False), (5.0, True, True)]
)
def test_a_warning_at_four_fifths_and_a_refusal_at_the_whole(
    spent: float, warning: bool, refused: bool
):
    found = spending_of(row(spent_nano=nano(spent)), NOON)
    assert found is not None
    assert found.warning == warning
    assert (refusal(found, "al-chat", NOON) is not None) == refused


def test_a_refusal_says_how_much_and_when_it_begins_anew():
    found = spending_of(row(spent_nano=nano(5.25)), NOON)
    error = refusal(found, "al-chat", NOON)
    assert error is not None
    assert "$5.25 of $5.00 this month" in error.detail
    assert "1 February 2027, 00:00 UTC" in error.detail
    assert error.retry_after == 12 * 3600 + 1
    assert error.budget["beginsAnewAt"] == "2027-02-01T00:00:00+00:00"


def test_an_earlier_period_does_not_count_and_december_is_followed_by_january():
    assert refusal(spending_of(row(spent_nano=9 * NANO), NOON), "al-chat", NOON) is not None
    later = NOON + timedelta(days=1)
    found = spending_of(row(spent_nano=9 * NANO, spent_unpriced=3), later)
    assert found is not None
    assert (found.spent_nano, found.unpriced, found.since) == (0, 0, date(2027, 2, 1))
    december = spending_of(row(), datetime(2026, 12, 31, 23, 59, tzinfo=UTC))
    assert december is not None
    assert december.until == datetime(2027, 1, 1, tzinfo=UTC)
    a_day = spending_of(row(budget_period=DAY), NOON)
    assert a_day is not None
    assert a_day.until == datetime(2027, 2, 1, tzinfo=UTC)


def test_the_budget_of_one_project_refuses_no_other():
    found = spending_of(row(spent_nano=9 * NANO, budget_project_id="al-chat"), NOON)
    error = refusal(found, "al-chat", NOON)
    assert error is not None
    assert "for AL-Chat" in error.detail
    assert refusal(found, "ai-resume", NOON) is None
    assert refusal(spending_of(row(budget_nano=None), NOON), "al-chat", NOON) is None


def test_amounts_keep_their_billionths_over_the_wire():
    for amount in (1, 999_999_999, 123_456_789, 1_000_000 * NANO - 1):
        assert nano(usd(amount)) == amount
    assert [in_words(it) for it in (0, 400_000, 5 * NANO)] == ["$0.00", "$0.0004", "$5.00"]


# --- with a database ---


class Lent:
    """A user with a credential that AL-Chat has borrowed."""

    def __init__(self, house: House, name: str = "ana", **more: Any) -> None:
        self.house, self.name = house, name
        self.actor: Actor = house.sign_in(name)
        self.info = house.key(self.actor, **more)
        self.token = house.project_token(self.actor)
        self.loan = self.lend()

    def lend(self) -> Loan:
        return self.house.lend(self.token, self.name)

    def spend(self, number: str, cost: float | None, **more: Any) -> Record:
        values: dict[str, Any] = {
            "id": number,
            "lease_id": self.loan.lease_id,
            "credential_id": self.loan.credential_id,
            "model": "gpt-test",
            "prompt_tokens": 100,
            "completion_tokens": 10,
            "cost_nano": None if cost is None else nano(cost),
            "at": self.house.clock(),
        }
        return Record(**values | more)

    def report(self, *records: Record) -> tuple[int, int, tuple[str, ...]]:
        found = self.house.papita.usage.report("al-chat", records)
        return found.counted, found.repeated, found.unknown

    def budget(self, dollars: float, period: str = MONTH, project: str | None = None) -> None:
        self.house.papita.credentials.replace(
            self.actor,
            self.info.id,
            ReplaceCredential(budget=Budget(nano(dollars), period, project)),
            etag="*",
        )


@both_engines
def test_what_is_reported_twice_counts_once(house: House):
    ana = Lent(house)
    records = [ana.spend("run_1-1", 0.5), ana.spend("run_1-2", None, completion_tokens=None)]
    assert ana.report(*records) == (2, 0, ())
    assert ana.report(*records, ana.spend("run_2-1", 0.25)) == (1, 2, ())
    (line,) = house.papita.usage.of(ana.actor, "credential")
    assert (line.key, line.label) == (ana.info.id, ana.info.label)
    assert (line.requests, line.unpriced_requests, line.cost_nano) == (3, 1, nano(0.75))
    assert (line.prompt_tokens, line.completion_tokens) == (300, 20)


@both_engines
def test_what_is_reported_by_many_at_once_counts_once_for_each_user_and_model(house: House):
    lent = [Lent(house), Lent(house, "ben", budget=Budget(nano(100), DAY)), Lent(house, "eve")]
    records = [
        who.spend(f"{who.name}-{n}", n / 1000, model=f"m{n % 2}") for who in lent for n in range(10)
    ]
    # Each record is in several of them, and in no one order.
    parts = [records[first : first + 15] for first in (0, 5, 10, 15)]
    parts += [part[::-1] for part in parts]
    done = at_once([lambda part=part: lent[0].report(*part) for part in parts])
    counts = [one for one in done if not isinstance(one, Exception)]
    assert len(counts) == len(parts), done
    assert all(counted + repeated == 15 and not unknown for counted, repeated, unknown in counts)
    assert sum(counted for counted, _, _ in counts) == len(records)
    for who in lent:
        lines = house.papita.usage.of(who.actor, "model")
        assert {line.key: (line.requests, line.cost_nano) for line in lines} == {
            "m0": (5, nano(0.02)),
            "m1": (5, nano(0.025)),
        }
    found = house.papita.credentials.get(lent[1].actor, lent[1].info.id).budget
    assert found is not None
    assert found.spent_nano == nano(0.045)


@both_engines
def test_the_last_of_two_records_of_one_id_counts(house: House):
    ana = Lent(house)
    assert ana.report(ana.spend("1", 1), ana.spend("2", 2), ana.spend("1", 4)) == (2, 1, ())
    (line,) = house.papita.usage.of(ana.actor, "day")
    assert (line.requests, line.cost_nano) == (2, nano(6))


@both_engines
def test_only_what_was_lent_is_believed(house: House):
    ana, ben = Lent(house), Lent(house, "ben")
    other = house.key(ana.actor, "sk-demo-never-lent-0123456789", project_id="ai-resume")
    made_up = [
        ana.spend("a", 1, credential_id=ben.loan.credential_id),
        ana.spend("b", 1, lease_id="00000000-0000-4000-8000-000000000000"),
        ana.spend("c", 1, credential_id=other.id),
    ]
    assert ana.report(*made_up) == (0, 0, ("a", "b", "c"))
    assert ana.report(ana.spend("d", 1), *made_up) == (1, 0, ("a", "b", "c"))
    # The loan was AL-Chat's: another project cannot report for it.
    assert house.papita.usage.report("ai-resume", [ana.spend("e", 1)]).unknown == ("e",)
    assert house.papita.usage.of(ben.actor, "day") == []
    assert house.sql("SELECT count(*) FROM usage_reports") == [(1,)]


@both_engines
def test_a_day_is_not_the_projects_to_choose(house: House):
    ana = Lent(house)
    today = house.clock().date()
    ana.report(
        ana.spend("early", 1, at=house.clock() - timedelta(days=40)),
        ana.spend("late", 2, at=house.clock() + timedelta(days=40)),
    )
    (line,) = house.papita.usage.of(ana.actor, "day")
    assert (line.key, line.cost_nano) == (today.isoformat(), 3 * NANO)
    assert house.papita.usage.of(ana.actor, "day", until=today - timedelta(days=1)) == []
    with pytest.raises(InvalidInput):
        house.papita.usage.of(ana.actor, "day", since=today, until=today - timedelta(days=1))
    with pytest.raises(InvalidInput):
        house.papita.usage.of(ana.actor, "day", since=today - timedelta(days=366))


@both_engines
def test_a_budget_that_is_used_up_ends_the_lending_until_it_is_raised_or_begins_anew(house: House):
    ana = Lent(house, budget=Budget(nano(1.0), DAY))
    ana.report(ana.spend("1", 0.79))
    spending = ana.lend().spending
    assert spending is not None
    assert not spending.warning
    ana.report(ana.spend("2", 0.05), ana.spend("3", None))
    spending = ana.lend().spending
    assert spending is not None
    assert (spending.warning, spending.spent_nano, spending.unpriced) == (True, nano(0.84), 1)
    ana.report(ana.spend("4", 0.16))
    with pytest.raises(BudgetExceeded) as refused:
        ana.lend()
    assert "$1.00 of $1.00 today" in refused.value.detail
    which = house.papita.grants.which(ana.actor, "al-chat")
    assert (which.credential, which.code) == (None, "budget-exceeded")
    entries = house.papita.audit.entries(
        Actor.operator(), AuditFilter(action="credential.read", outcome="budget-exceeded")
    )
    assert len(entries.items) == 1
    ana.budget(2.0, DAY)
    assert ana.lend().spending is not None
    ana.budget(1.0, DAY)
    with pytest.raises(BudgetExceeded):
        ana.lend()


@both_engines
def test_the_figure_on_the_row_is_that_of_the_record_whoever_counts(house: House):
    ana = Lent(house)
    ana.report(ana.spend("before", 0.5))
    ana.budget(100)
    done = at_once(
        [
            lambda n=n: ana.report(*(ana.spend(f"{n}-{m}", 0.001, model=f"m{m}") for m in range(5)))
            for n in range(8)
        ]
    )
    assert done == [(5, 0, ())] * 8
    found = house.papita.credentials.get(ana.actor, ana.info.id).budget
    assert found is not None
    assert found.spent_nano == nano(0.54)


def test_a_budget_for_another_project_and_a_budget_that_is_taken_away(house: House):
    ana = Lent(house, budget=Budget(nano(0.01), MONTH, "ai-resume"))
    ana.report(ana.spend("1", 5))
    spending = ana.lend().spending
    assert spending is not None
    assert spending.spent_nano == 0
    ana.budget(0.01, MONTH, "al-chat")
    with pytest.raises(BudgetExceeded):
        ana.lend()
    kept = house.papita.credentials.replace(
        ana.actor, ana.info.id, ReplaceCredential(label="x"), etag="*"
    )
    assert kept.budget is not None
    house.papita.credentials.replace(
        ana.actor, ana.info.id, ReplaceCredential(budget=None), etag="*"
    )
    assert ana.lend().spending is None
    changes = house.papita.audit.entries(
        Actor.operator(), AuditFilter(action="credential.budget")
    ).items
    assert [entry.event.details["limit"] for entry in changes] == [None, "$0.01", "$0.01"]


@pytest.mark.parametrize(
    ("budget", "project", "sentence"),
    [
        (Budget(0, DAY), None, "from 0.01"),
        (Budget(nano(2e6), DAY), None, "from 0.01"),
        (Budget(NANO, "year"), None, "a day or for a month"),
        (Budget(NANO, DAY, "nowhere"), None, "no such project"),
        (Budget(NANO, DAY, "ai-resume"), "al-chat", "for another"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(
    house: House, budget: Budget, project: str | None, sentence: str
):
    ana = house.sign_in("ana")
    with pytest.raises(InvalidInput, match=sentence) as refused:
        house.key(ana, project_id=project, budget=budget)
    assert set(refused.value.errors) == {"budget"}


def test_a_loan_takes_as_many_statements_with_a_budget_as_without(house: House):
    ana, ben = Lent(house), Lent(house, "ben", budget=Budget(NANO, DAY))
    seen: list[str] = []

    def statements(who: Lent) -> int:
        seen.clear()
        who.lend()
        return len(seen)

    @event.listens_for(house.papita.database.engine, "checkout")
    def _trace(connection: Any, _record: object, _proxy: object) -> None:
        connection.set_trace_callback(seen.append)

    without, with_budget = statements(ana), statements(ben)
    assert without == with_budget > 3


# --- over HTTP ---


@pytest.fixture
def api(house: House) -> TestClient:
    house.sign_in("ana")
    client = house.api()
    client.headers["Authorization"] = f"Bearer {house.access_token('ana')}"
    return client


def test_the_api_takes_reports_and_budgets_and_refuses_with_numbers(house: House, api: TestClient):
    body = {
        "credentialType": "openai",
        "credentials": {"api_key": "sk-demo-0123456789abcdef"},
        "budget": {"limitUsd": 1, "period": "month"},
    }
    made = api.post("/api/credentials", json=body)
    assert made.status_code == 201, made.text
    place = made.headers["Location"]
    assert made.json()["credentials"]["budget"]["spentUsd"] == 0
    user = house.papita.users.by_username("ana")
    assert user is not None
    ana = Actor.for_session(
        house.papita.sessions.redeem(house.papita.sessions.start(user.id).ticket)[1]
    )
    project = {"Authorization": f"Bearer {house.project_token(ana)}"}
    wanted = {"username": "ana", "credentialType": "openai", "projectId": "al-chat"}
    lent = api.get("/api/credentials", params=wanted, headers=project).json()
    assert lent["budget"]["limitUsd"] == 1
    record = {
        "id": "run_1-1",
        "leaseId": lent["lease"]["id"],
        "credentialId": lent["credentials"]["id"],
        "model": "gpt-test",
        "promptTokens": 3,
        "completionTokens": None,
        "costUsd": 1.000000001,
        "at": house.clock().isoformat(),
    }
    for counted, repeated in ((1, 0), (0, 1)):
        answer = api.post("/api/usage", json={"records": [record]}, auth=CLIENT)
        assert answer.json() == {"counted": counted, "repeated": repeated, "unknown": []}
    refused = api.get("/api/credentials", params=wanted, headers=project)
    assert (refused.status_code, refused.json()["code"]) == (429, "budget-exceeded")
    assert int(refused.headers["Retry-After"]) > 0
    assert refused.json()["budget"]["spentUsd"] == 1.000000001
    (line,) = api.get("/api/usage", params={"group": "project"}).json()["usage"]
    assert (line["key"], line["costUsd"], line["requests"]) == ("al-chat", 1.000000001, 1)
    changed = api.put(place, json={"budget": None}, headers={"If-Match": "*"})
    assert changed.json()["credentials"]["budget"] is None
    assert api.get("/api/credentials", params=wanted, headers=project).status_code == 200
    for wrong in (
        {**record, "costUsd": -1},
        {**record, "at": "2027-01-01T00:00:00"},
        {**record, "promptTokens": True},
        {**record, "leaseId": "x"},
    ):
        assert api.post("/api/usage", json={"records": [wrong]}, auth=CLIENT).status_code == 422
    assert api.post("/api/usage", json={"records": [record] * 101}, auth=CLIENT).status_code == 422
