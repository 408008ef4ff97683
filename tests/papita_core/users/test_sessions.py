"""Sign-in sessions: a ticket serves once, a handle is known by its hash, an end is an end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from papita_core.actors import Actor
from papita_core.audit.service import Event
from papita_core.errors import SignInRefused, TicketRefused, Unauthenticated
from papita_core.users.sessions import SignInSession
from tests.papita_core.house import PASSWORD, House, at_once, both_engines

OPERATOR = Actor.operator()


def signed_in(house: House, user_id: str) -> tuple[str, SignInSession]:
    return house.papita.sessions.redeem(house.papita.sessions.start(user_id).ticket)


@both_engines
def test_a_ticket_serves_once(house: House):
    started = house.papita.sessions.start(house.user("ana"), address="1.2.3.4", user_agent="x")
    handle, session = house.papita.sessions.redeem(started.ticket)
    assert session.username == "ana"
    assert session.id == started.session.id
    assert house.papita.sessions.by_handle(handle) == session
    assert house.papita.sessions.by_id(session.id) == session
    with pytest.raises(TicketRefused):
        house.papita.sessions.redeem(started.ticket)
    assert house.papita.sessions.by_handle(handle) is not None


@both_engines
def test_of_many_that_redeem_one_ticket_one_gets_a_handle(house: House):
    ticket = house.papita.sessions.start(house.user("ana")).ticket
    outcomes = at_once([lambda: house.papita.sessions.redeem(ticket)] * 8)
    assert sum(isinstance(outcome, tuple) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, TicketRefused) for outcome in outcomes) == 7


def test_a_ticket_lives_for_a_minute(house: House):
    user = house.user("ana")
    tickets = [house.papita.sessions.start(user).ticket for _ in range(2)]
    house.clock.forward(seconds=58)
    house.papita.sessions.redeem(tickets[0])
    house.clock.forward(seconds=2)
    with pytest.raises(TicketRefused):
        house.papita.sessions.redeem(tickets[1])


@pytest.mark.parametrize("ticket", ["", "x", "None", "ü", "\ud800", "\0"])
def test_what_is_no_ticket_or_handle_opens_nothing(house: House, ticket: str):
    house.sign_in("ana")
    with pytest.raises(TicketRefused):
        house.papita.sessions.redeem(ticket)
    assert house.papita.sessions.by_handle(ticket) is None


def test_ticket_and_handle_are_in_the_database_as_hashes_alone(house: House):
    user = house.user("ana")
    waiting = house.papita.sessions.start(user)
    handle, _ = signed_in(house, user)
    stored = repr(house.sql("SELECT * FROM sign_in_sessions"))
    assert waiting.ticket not in stored
    assert handle not in stored
    assert len(handle) >= 43
    assert handle not in repr(signed_in(house, user)[1])


@both_engines
def test_a_session_without_use_ends(house: House):
    handle, session = signed_in(house, house.user("ana"))
    house.clock.forward(minutes=1439)
    assert house.papita.sessions.by_handle(handle) is not None
    house.clock.forward(minutes=1439)
    assert house.papita.sessions.by_handle(handle) is not None
    house.clock.forward(minutes=1440)
    assert house.papita.sessions.by_handle(handle) is None
    assert house.papita.sessions.by_id(session.id) is None


def test_a_session_in_use_ends_after_its_days_all_the_same(house: House):
    handle, session = signed_in(house, house.user("ana"))
    for _ in range(28):
        assert house.papita.sessions.by_handle(handle) is not None
        house.clock.forward(hours=12)
    assert house.papita.sessions.by_handle(handle) is None
    assert (session.expires_at - session.created_at).days == 14


def test_the_time_outs_are_settings(house: House):
    papita = house.opened(PAPITA_SESSION_IDLE_MINUTES="5", PAPITA_SESSION_DAYS="1")
    handle, _ = papita.sessions.redeem(papita.sessions.start(house.user("ana")).ticket)
    house.clock.forward(minutes=5)
    assert papita.sessions.by_handle(handle) is None


def end(house: House, actor: Actor) -> None:
    assert actor.session_id is not None
    house.papita.sessions.end(actor.session_id)
    house.papita.sessions.end(actor.session_id)  # twice is no error


def end_others(house: House, actor: Actor) -> None:
    _, kept = signed_in(house, actor.user_id)
    assert house.papita.sessions.end_others(actor.user_id, kept.id) == 1
    assert house.papita.sessions.by_id(kept.id) is not None


def disable(house: House, actor: Actor) -> None:
    house.papita.users.set_disabled(OPERATOR, actor.username, True)


def reset(house: House, actor: Actor) -> None:
    house.papita.users.reset_password(OPERATOR, actor.username, "another long one")


@both_engines
@pytest.mark.parametrize("way", [end, end_others, disable, reset])
def test_every_end_reaches_the_session_and_its_leases_and_nobody_elses(
    house: House, way: Callable[[House, Actor], None]
):
    ana, ben = house.sign_in("ana"), house.sign_in("ben")
    tokens = {}
    for actor in (ana, ben):
        house.key(actor)
        tokens[actor.username] = house.project_token(actor)
        house.lend(tokens[actor.username], actor.username)
    way(house, ana)
    assert house.papita.sessions.by_id(ana.session_id or "") is None
    with pytest.raises(Unauthenticated):
        house.lend(tokens["ana"], "ana")
    assert house.papita.sessions.by_id(ben.session_id or "") is not None
    house.lend(tokens["ben"], "ben")


def events(house: House, *actions: str) -> list[Event]:
    """Oldest first."""
    items = house.papita.audit.entries(OPERATOR, limit=100).items[::-1]
    return [entry.event for entry in items if entry.event.action in actions]


@both_engines
def test_begin_and_end_are_in_the_audit_log(house: House):
    ana = house.user("ana")
    sessions = house.papita.sessions
    first = sessions.start(ana, address="192.0.2.1", second_factor="totp").session
    for _ in range(2):
        sessions.start(ana, method="passkey")
    assert sessions.end_others(ana, first.id) == 2
    for _ in range(2):
        sessions.end(first.id, by="somebody", reason="removed")
    began = events(house, "session.started")
    assert [(event.actor_id, event.owner_id) for event in began] == [(ana, ana)] * 3
    assert began[0].subject_id == first.id
    assert began[0].details == {
        "method": "password",
        "secondFactor": "totp",
        "address": "192.0.2.1",
    }
    ended = events(house, "session.ended")
    assert [(event.actor_id, event.details["reason"]) for event in ended] == [
        (ana, "ended-elsewhere"),
        (ana, "ended-elsewhere"),
        ("somebody", "removed"),
    ]


@both_engines
def test_a_sign_in_is_noted_with_its_user_and_its_network(house: House):
    ana = house.user("ana")
    assert house.sql("SELECT last_sign_in_at FROM users")[0][0] is None
    house.papita.sessions.start(ana, address="2001:db8:1:2:3::4")
    assert house.sql("SELECT last_sign_in_at FROM users")[0][0] is not None
    (row,) = house.sql("SELECT address, network FROM sign_in_sessions")
    assert tuple(row) == ("2001:db8:1:2:3::4", "2001:db8:1:2::/64")


@both_engines
@pytest.mark.parametrize("column", ["disabled_at", "awaits_approval_since"])
def test_no_session_begins_or_lives_for_who_may_not_be_here(house: House, column: str):
    ana = house.user("ana")
    _, session = signed_in(house, ana)
    house.sql(f"UPDATE users SET {column} = created_at")
    with pytest.raises(SignInRefused):
        house.papita.sessions.start(ana)
    assert house.papita.sessions.by_id(session.id) is None
    assert len(house.sql("SELECT id FROM sign_in_sessions")) == 1


def test_who_is_not_kept_signed_in_is_so_for_hours(house: House):
    ana = house.user("ana")
    session = house.papita.sessions.start(ana, remember=False).session
    assert session.expires_at - session.created_at == timedelta(hours=12)
    assert not session.remember


@both_engines
def test_the_handle_is_another_after_rights_were_raised(house: House):
    """Attack: session fixation, with a handle that somebody knew before."""
    sessions = house.papita.sessions
    before, session = signed_in(house, house.user("ana"))
    house.clock.forward(minutes=6)
    assert not Actor.for_session(session).proved(house.clock())
    ticket = sessions.prove(session.id, second_factor="totp")
    # The old handle holds until the browser has the new one, and gets nothing of what was raised.
    found = sessions.by_handle(before)
    assert found is not None
    assert found.proved_at is None
    after, raised = sessions.redeem(ticket)
    assert after != before
    assert sessions.by_handle(before) is None
    assert Actor.for_session(raised).proved(house.clock())
    found = sessions.by_handle(after)
    assert found is not None
    assert found.proved_at == raised.proved_at
    assert found.second_factor == "totp"


def test_a_ticket_of_an_ended_session_is_refused(house: House):
    user = house.user("ana")
    for way in (
        lambda session_id: house.papita.sessions.end(session_id),
        lambda _: house.papita.users.set_disabled(OPERATOR, "ana", True),
    ):
        started = house.papita.sessions.start(user)
        way(started.session.id)
        with pytest.raises(TicketRefused):
            house.papita.sessions.redeem(started.ticket)


def test_a_user_who_is_let_in_again_has_to_sign_in_again(house: House):
    handle, _ = signed_in(house, house.user("ana"))
    house.papita.users.set_disabled(OPERATOR, "ana", True)
    house.papita.users.set_disabled(OPERATOR, "ana", False)
    assert house.papita.sessions.by_handle(handle) is None
    assert house.papita.sign_in.authenticate("ana", PASSWORD).disabled is False


def test_sessions_of_a_user_are_listed_newest_first(house: House):
    user = house.user("ana")
    first = signed_in(house, user)[1]
    house.clock.forward(seconds=5)
    second = signed_in(house, user)[1]
    house.papita.sessions.start(house.user("ben"))
    assert [s.id for s in house.papita.sessions.of_user(user)] == [second.id, first.id]
