"""Personal access tokens: narrowed by scopes, ended by time, revocation and the user's own end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from papita_core.actors import TOKEN_SCOPES, Actor
from papita_core.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    ReauthenticationRequired,
    Unauthenticated,
)
from papita_core.users.access_tokens import MAX_TOKENS, NewAccessToken
from tests.papita_core.house import House, at_once, both_engines

OPERATOR = Actor.operator()


@both_engines
def test_a_token_speaks_for_its_user_within_its_scopes(house: House):
    ana = house.sign_in("ana")
    new = house.papita.access_tokens.create(ana, name=" laptop ", scopes=("credentials:read",))
    assert new.token.startswith("papita_pat_")
    assert len(new.token) >= 43 + len("papita_pat_")
    assert new.token not in repr(new)
    actor = house.papita.access_tokens.actor(new.token)
    assert actor is not None
    assert (actor.user_id, actor.session_id) == (ana.user_id, None)
    assert actor.capabilities == {"credentials:read"}
    assert house.papita.credentials.list(actor).items == []
    with pytest.raises(Forbidden):
        house.key(actor)
    with pytest.raises(Forbidden):
        house.papita.projects.user_token(actor, "al-chat")


def test_no_scope_gives_more_than_the_role(house: House):
    house.user("gus", "guest")
    actor = house.papita.access_tokens.actor(house.access_token("gus"))
    assert actor is not None
    assert actor.capabilities == {"projects:launch"}


def test_a_token_makes_no_further_tokens(house: House):
    house.user("ana")
    actor = house.papita.access_tokens.actor(house.access_token("ana"))
    assert actor is not None
    for use in (
        lambda: house.papita.access_tokens.create(actor, name="x", scopes=TOKEN_SCOPES),
        lambda: house.papita.access_tokens.list(actor),
        lambda: house.papita.access_tokens.revoke(actor, actor.token_id or ""),
    ):
        with pytest.raises(Forbidden):
            use()


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": " "}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"name": "\x1b[2J"}, "name"),
        ({"scopes": ()}, "scopes"),
        ({"scopes": ("users:manage",)}, "scopes"),
        ({"scopes": ("tokens:manage", "credentials:read")}, "scopes"),
        ({"days": 0}, "expires"),
        ({"days": 3651}, "expires"),
    ],
)
def test_a_token_that_cannot_be_is_refused_by_field(
    house: House, wrong: dict[str, object], field: str
):
    fields: dict[str, object] = {"name": "x", "scopes": TOKEN_SCOPES, "days": 1, **wrong}
    with pytest.raises(InvalidInput) as caught:
        house.papita.access_tokens.create(house.sign_in("ana"), **fields)  # type: ignore[arg-type]
    assert list(caught.value.errors) == [field]


def test_a_token_is_in_the_database_as_a_hash_alone(house: House):
    house.user("ana")
    token = house.access_token("ana")
    stored = repr(house.sql("SELECT * FROM access_tokens"))
    assert token not in stored
    assert token.removeprefix("papita_pat_") not in stored


def test_a_token_expires(house: House):
    ana = house.sign_in("ana")
    new = house.papita.access_tokens.create(ana, name="x", scopes=TOKEN_SCOPES, days=1)
    house.clock.forward(hours=23)
    assert house.papita.access_tokens.actor(new.token) is not None
    house.clock.forward(hours=1)
    assert house.papita.access_tokens.actor(new.token) is None


@both_engines
def test_revoking_and_disabling_reach_leases_that_rest_on_the_token(house: House):
    ana = house.sign_in("ana")
    house.key(ana)
    for way in ("revoke", "disable"):
        token = house.access_token("ana")
        actor = house.papita.access_tokens.actor(token)
        assert actor is not None
        user_token = house.papita.projects.user_token(actor, "al-chat").token
        lease = house.papita.grants.exchange("al-chat", user_token, "openai").token
        house.lend(lease, "ana")
        if way == "revoke":
            house.papita.access_tokens.revoke(ana, actor.token_id or "")
        else:
            house.papita.users.set_disabled(OPERATOR, "ana", True)
        assert house.papita.access_tokens.actor(token) is None
        with pytest.raises(Unauthenticated):
            house.lend(lease, "ana")


def test_others_tokens_are_absent_except_for_who_manages_users(house: House):
    ana, eve = house.sign_in("ana"), house.sign_in("eve")
    tokens = house.papita.access_tokens
    mine = tokens.create(ana, name="mine", scopes=TOKEN_SCOPES)
    absent, foreign = [], []
    for actor, found in ((eve, foreign), (ana, absent)):
        with pytest.raises(NotFound) as caught:
            tokens.revoke(actor, mine.info.id if actor is eve else "nothing")
        found.append(str(caught.value))
    assert absent == foreign
    with pytest.raises(Forbidden):
        tokens.list(eve, username="ana")
    with pytest.raises(Forbidden):
        tokens.create(eve, name="x", scopes=TOKEN_SCOPES, username="ana")
    assert [item.name for item in tokens.list(ana)] == ["mine"]
    tokens.revoke(house.sign_in("ada", "administrator"), mine.info.id)
    assert tokens.list(ana) == []


@pytest.mark.parametrize("token", ["", "papita_pat_", "papita_pat_x", "x", "\ud800"])
def test_what_is_no_token_speaks_for_nobody(house: House, token: str):
    house.user("ana")
    house.access_token("ana")
    assert house.papita.access_tokens.actor(token) is None


def test_use_is_noted_about_once_a_minute(house: House):
    ana = house.sign_in("ana")
    token = house.access_token("ana")
    house.papita.access_tokens.actor(token)
    first = house.papita.access_tokens.list(ana)[0].last_used_at
    house.clock.forward(seconds=30)
    house.papita.access_tokens.actor(token)
    assert house.papita.access_tokens.list(ana)[0].last_used_at == first
    house.clock.forward(seconds=31)
    house.papita.access_tokens.actor(token)
    assert house.papita.access_tokens.list(ana)[0].last_used_at != first


@both_engines
def test_a_user_has_so_many_live_tokens_and_no_more(house: House):
    ana = house.sign_in("ana")
    tokens = house.papita.access_tokens
    tokens.create(ana, name="short", scopes=TOKEN_SCOPES, days=1)
    for number in range(MAX_TOKENS - 2):
        last = tokens.create(ana, name=str(number), scopes=TOKEN_SCOPES)
    outcomes = at_once([lambda: tokens.create(ana, name="x", scopes=TOKEN_SCOPES)] * 4)
    assert sum(isinstance(outcome, NewAccessToken) for outcome in outcomes) == 1, outcomes
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 3
    with pytest.raises(Conflict, match="Revoke one"):
        tokens.create(OPERATOR, name="x", scopes=TOKEN_SCOPES, username="ana")
    tokens.revoke(ana, last.info.id)
    tokens.create(ana, name="x", scopes=TOKEN_SCOPES)
    house.clock.forward(days=2)  # one has expired
    with pytest.raises(ReauthenticationRequired):
        tokens.create(ana, name="x", scopes=TOKEN_SCOPES)
    ana = replace(ana, proved_at=house.clock())
    tokens.create(ana, name="x", scopes=TOKEN_SCOPES)
    house.user("ben")
    house.access_token("ben")
