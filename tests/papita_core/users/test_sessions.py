"""Sign-in sessions: a ticket serves once, a handle is known by its hash, an end is an end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from papita_core.actors import Actor
from papita_core.errors import TicketRefused, Unauthenticated
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
