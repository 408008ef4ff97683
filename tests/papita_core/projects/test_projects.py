"""The switch of each project: who may turn it, and what it stops."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from papita_core.actors import Actor
from papita_core.audit.service import AuditFilter
from papita_core.errors import Forbidden, NotFound, ProjectDisabled
from papita_core.projects.catalogue import PROJECTS
from tests.papita_core.house import House, at_once, both_engines

OPERATOR = Actor.operator()


@both_engines
def test_a_project_that_is_switched_off_gets_nothing_until_it_is_on_again(house: House):
    ada, ana = house.sign_in("ada", "administrator"), house.sign_in("ana")
    house.key(ana)
    projects, grants = house.papita.projects, house.papita.grants
    user_token = projects.user_token(ana, "al-chat").token
    lease = house.project_token(ana)
    house.lend(lease, "ana")
    projects.set_disabled(ada, "al-chat", True)
    assert projects.is_disabled("al-chat")
    uses: list[Callable[[], object]] = [
        lambda: house.lend(lease, "ana"),
        lambda: grants.exchange("al-chat", user_token, "openai"),
        lambda: projects.user_token(ana, "al-chat"),
        lambda: projects.require_enabled("al-chat"),
    ]
    for use in uses:
        with pytest.raises(ProjectDisabled):
            use()
    assert not projects.is_disabled("ai-resume")
    assert grants.allowed(ana, "al-chat")
    projects.set_disabled(ada, "al-chat", False)
    house.lend(grants.exchange("al-chat", user_token, "openai").token, "ana")
    # What was borrowed before stays taken back.
    assert house.sql("SELECT count(*) FROM leases WHERE revoked_at IS NOT NULL") == [(1,)]


@both_engines
def test_the_switch_is_on_the_record_once_for_each_change(house: House):
    ada = house.sign_in("ada", "administrator")
    for disabled in (True, True, False, False):
        house.papita.projects.set_disabled(ada, "al-chat", disabled)
    wanted = AuditFilter(project_id="al-chat")
    events = [entry.event for entry in house.papita.audit.entries(ada, wanted).items]
    assert [event.action for event in events] == ["project.enabled", "project.disabled"]
    assert {(event.actor_id, event.subject_id) for event in events} == {(ada.user_id, "al-chat")}


@both_engines
def test_many_who_switch_at_once_leave_one_state(house: House):
    switch = house.papita.projects.set_disabled
    calls = [lambda off=off: switch(OPERATOR, "al-chat", off) for off in (True, False) * 4]
    assert at_once(calls) == [None] * 8
    wanted = AuditFilter(project_id="al-chat")
    last = house.papita.audit.entries(OPERATOR, wanted).items[0].event.action
    assert last == f"project.{'disabled' if switched_off(house) else 'enabled'}"


def switched_off(house: House) -> bool:
    return house.papita.projects.is_disabled("al-chat")


@both_engines
def test_administrators_see_the_state_and_how_many_use_it(house: House):
    ada = house.sign_in("ada", "administrator")
    grants, projects = house.papita.grants, house.papita.projects
    for name in ("ana", "ben"):
        grants.allow(house.sign_in(name), "al-chat")
    eve = house.sign_in("eve")
    grants.allow(eve, "al-chat")
    grants.revoke(eve, "al-chat")
    projects.set_disabled(ada, "ai-resume", True)
    states = projects.states(ada)
    assert tuple(state.project for state in states) == PROJECTS
    assert [(state.project.id, state.users, state.disabled_at is None) for state in states] == [
        ("al-chat", 2, True),
        ("ai-resume", 0, False),
    ]


def test_the_switch_is_for_administrators(house: House):
    projects = house.papita.projects
    for role in ("member", "guest"):
        actor = house.sign_in(role, role)
        with pytest.raises(Forbidden):
            projects.set_disabled(actor, "al-chat", True)
        with pytest.raises(Forbidden):
            projects.states(actor)
    assert not projects.is_disabled("al-chat")
    with pytest.raises(NotFound):
        projects.set_disabled(OPERATOR, "nothing", True)
