"""What the dashboard makes of what it knows, without a browser."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from papita_core.actors import Actor
from papita_core.usage.budgets import NANO, Budget, Spending
from papita_core.users.service import NewUser, User
from papita_core.vault.service import NewCredential
from portal.dashboard.health import (
    LastAnswer,
    Standing,
    answer_part,
    badge_of,
    key_part,
    service_part,
    vault_part,
)
from portal.dashboard.spending import chart
from portal.launcher import State, Status
from portal.wiring import Services
from tests.portal.conftest import PASSWORD
from tests.portal.test_door import signed_in
from tests.portal.test_pages import KEY, actor_of

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
RUNNING = Status(State.RUNNING)


def spent(dollars: float) -> Spending:
    return Spending(Budget(10 * NANO, "month"), int(dollars * NANO), 0, date(2026, 11, 1))


WELL = (
    service_part(RUNNING, can_start=True),
    vault_part(sealed=False),
    key_part("ok", None, None, NOW),
    answer_part(LastAnswer(NOW)),
)


def test_green_is_where_all_of_it_is_well() -> None:
    assert badge_of(RUNNING, WELL)[:2] == ("Ready", "green")


@pytest.mark.parametrize(
    ("part", "badge"),
    [
        (service_part(Status(State.UNHEALTHY, "It hangs."), can_start=True), "Does not work"),
        (service_part(Status(State.STOPPED, "Nothing."), can_start=False), "Does not work"),
        (vault_part(sealed=True), "Does not work"),
        (key_part("rejected", None, None, NOW), "Does not work"),
        (key_part("expired", NOW - timedelta(days=1), None, NOW), "Does not work"),
        (key_part("disabled", None, None, NOW), "Does not work"),
        (key_part("blocked", None, None, NOW), "Does not work"),
        (key_part("unreadable", None, None, NOW), "Does not work"),
        (key_part("a word of later", None, None, NOW), "Does not work"),
        (key_part("ok", None, spent(10), NOW), "Does not work"),
        (key_part("ok", None, spent(8), NOW), "Needs attention"),
        (key_part("ok", NOW + timedelta(days=5), None, NOW), "Needs attention"),
        (key_part("unreachable", None, None, NOW), "Needs attention"),
        (key_part("rate_limited", None, None, NOW), "Needs attention"),
        (answer_part(LastAnswer(NOW, "provider-error", "It broke.")), "Needs attention"),
        (key_part("untested", None, None, NOW), "Running"),
        (answer_part(None), "Running"),
        (answer_part(LastAnswer(NOW, "content-filtered", "Not this.")), "Ready"),
        (key_part("ok", NOW + timedelta(days=15), spent(7), NOW), "Ready"),
    ],
)
def test_one_part_that_is_not_well_is_the_colour_of_the_whole(part: object, badge: str) -> None:
    title, color, _ = badge_of(RUNNING, [*WELL, part])  # type: ignore[list-item]
    assert title == badge
    assert (color == "green") == (badge == "Ready")
    assert getattr(part, "standing") is Standing.OK or badge != "Ready"  # noqa: B009


def test_a_key_says_when_it_runs_out_and_what_is_left() -> None:
    assert key_part("ok", NOW + timedelta(days=5), None, NOW).sentence == (
        "Your key expires in 5 days."
    )
    assert key_part("ok", NOW + timedelta(hours=1), None, NOW).sentence == "Your key expires today."
    assert "8.00" in key_part("ok", None, spent(8), NOW).sentence


def test_a_project_that_is_stopped_is_neither_green_nor_broken() -> None:
    stopped = Status(State.STOPPED)
    part = service_part(stopped, can_start=True)
    assert badge_of(stopped, [part, *WELL[1:]])[:2] == ("Stopped", "gray")


def test_the_chart_adds_up_the_days_and_draws_the_budget() -> None:
    days = {date(2026, 11, 2): 0.5, date(2026, 11, 4): 1.0}
    options = chart(days, date(2026, 11, 5), 3.0)
    (series,) = options["series"]
    assert series["data"] == [0.0, 0.5, 0.5, 1.5, 1.5]
    assert series["markLine"]["data"] == [{"yAxis": 3.0}]
    assert options["yAxis"]["max"] == 3.0
    assert len(options["xAxis"]["data"]) == 5
    # A budget that is exceeded is within the picture, not its top.
    assert "max" not in chart(days, date(2026, 11, 5), 1.0)["yAxis"]
    assert "markLine" not in chart(days, date(2026, 11, 5), None)["series"][0]


def test_a_newcomer_is_told_what_to_do_first(services: Services) -> None:
    ben = services.papita.users.create(Actor.operator(), NewUser("ben", PASSWORD))
    app, _ = signed_in(services, ben)
    shown = [markdown.value for markdown in app.markdown]
    assert sum(":material/radio_button_unchecked:] " in text for text in shown) == 0
    todo = ":material/radio_button_unchecked: "
    assert [text.removeprefix(todo) for text in shown if text.startswith(todo)] == [
        "Store your OpenAI key, so that AL-Chat can answer.",
        "Open AL-Chat below, and allow it to use your key while it answers.",
        "Ask it something.",
    ]
    assert not [heading for heading in app.subheader if heading.value == "Recent conversations"]
    who = actor_of(services, ben)
    services.papita.credentials.create(who, NewCredential("openai", {"api_key": KEY}))
    services.papita.grants.allow(who, "al-chat")
    app.run()
    shown = [markdown.value for markdown in app.markdown]
    assert sum(text.startswith(":green[:material/check_circle:] ") for text in shown) == 2


def test_only_an_administrator_hears_of_backups(services: Services, ana: User) -> None:
    from portal.dashboard import attention

    ben = services.papita.users.create(Actor.operator(), NewUser("ben", PASSWORD))
    later = datetime.now(UTC) + timedelta(days=30)
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "_line", lambda key, text, **_: said.append(text))
        attention._say_backup(later)
        assert said == [
            "There has never been a backup. Make one with `python -m papita_core backup DIR`."
        ]
        said.clear()
        attention._say_backup(datetime.now(UTC))
        assert said == []
    app, _ = signed_in(services, ben)
    assert not any("backup" in markdown.value for markdown in app.markdown)
