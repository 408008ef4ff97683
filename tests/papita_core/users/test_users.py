"""Accounts: made once, disabled and let in again, and never without an administrator."""

from __future__ import annotations

import pytest

from papita_core.actors import Actor
from papita_core.errors import AlreadyExists, Conflict, Forbidden, NotFound, SignInRefused
from papita_core.users.service import NewUser, User
from tests.papita_core.house import PASSWORD, House, at_once, both_engines

OPERATOR = Actor.operator()


@both_engines
def test_a_name_is_given_once_however_it_is_spelled(house: House):
    users = house.papita.users
    made = users.create(OPERATOR, NewUser(" Ana ", PASSWORD, "Ana Belén", "ana@example.org"))
    assert (made.username, made.display_name, made.email) == ("ana", "Ana Belén", "ana@example.org")
    assert users.by_id(made.id) == made
    assert users.by_username("ANA") == made
    with pytest.raises(AlreadyExists):
        users.create(OPERATOR, NewUser("aNA", PASSWORD))
    outcomes = at_once([lambda: users.create(OPERATOR, NewUser("ben", PASSWORD))] * 4)
    assert sum(isinstance(outcome, User) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, AlreadyExists) for outcome in outcomes) == 3
    assert [user.username for user in users.list(OPERATOR)] == ["ana", "ben"]


@pytest.mark.parametrize("role", ["member", "guest"])
def test_only_who_manages_users_may(house: House, role: str):
    actor, users = house.sign_in("eve", role), house.papita.users
    for use in (
        lambda: users.create(actor, NewUser("x", PASSWORD, role="administrator")),
        lambda: users.list(actor),
        lambda: users.set_disabled(actor, "eve", True),
        lambda: users.reset_password(actor, "eve", PASSWORD),
    ):
        with pytest.raises(Forbidden):
            use()
    assert users.count() == 1


def test_a_token_of_an_administrator_manages_nobody(house: House):
    house.sign_in("ada", "administrator")
    actor = house.papita.access_tokens.actor(house.access_token("ada"))
    assert actor is not None
    with pytest.raises(Forbidden):
        house.papita.users.list(actor)


@both_engines
def test_the_last_administrator_stays(house: House):
    ada = house.sign_in("ada", "administrator")
    house.user("bea", "administrator")
    users = house.papita.users
    outcomes = at_once(
        [lambda name=name: users.set_disabled(ada, name, True) for name in ("ada", "bea")]
    )
    assert sum(isinstance(outcome, User) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 1


def test_unknown_names_are_not_found(house: House):
    with pytest.raises(NotFound):
        house.papita.users.set_disabled(OPERATOR, "nobody", True)
    with pytest.raises(NotFound):
        house.papita.users.reset_password(OPERATOR, "nobody", PASSWORD)
    assert house.papita.users.by_username("no\0body") is None


def test_a_reset_password_is_the_only_one(house: House):
    house.user("ana")
    house.papita.users.reset_password(OPERATOR, "ana", "another long one")
    assert house.papita.sign_in.authenticate("ana", "another long one")
    with pytest.raises(SignInRefused):
        house.papita.sign_in.authenticate("ana", PASSWORD)
