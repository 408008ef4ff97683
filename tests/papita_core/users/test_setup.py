"""The first administrator: one code, once, within the hour, and nobody after that."""

from __future__ import annotations

import re

import pytest

from papita_core.actors import Actor
from papita_core.errors import InvalidInput, SetupRefused
from papita_core.users.service import NewUser, User
from tests.papita_core.house import PASSWORD, House, at_once, both_engines


def complete(house: House, code: str, name: str = "ana") -> User:
    return house.papita.setup.complete(code=code, username=name, password=PASSWORD)


@both_engines
def test_a_code_makes_one_administrator(house: House):
    assert house.papita.setup.pending()
    code = house.papita.setup.issue_code()
    assert re.fullmatch(r"([A-Z2-9]{4}-){3}[A-Z2-9]{4}", code)
    user = complete(house, code.lower().replace("-", " "))
    assert (user.username, user.role) == ("ana", "administrator")
    assert not house.papita.setup.pending()
    with pytest.raises(SetupRefused):
        complete(house, code, "eve")


def test_a_fresh_code_ends_the_one_before(house: House):
    old, new = house.papita.setup.issue_code(), house.papita.setup.issue_code()
    with pytest.raises(SetupRefused):
        complete(house, old)
    complete(house, new)


def test_a_code_lives_for_an_hour(house: House):
    code = house.papita.setup.issue_code()
    house.clock.forward(minutes=60)
    with pytest.raises(SetupRefused):
        complete(house, code)


def test_a_code_is_in_the_database_as_a_hash_alone(house: House):
    code = house.papita.setup.issue_code()
    stored = repr(house.sql("SELECT * FROM setup_codes"))
    assert code not in stored
    assert code.replace("-", "") not in stored


@pytest.mark.parametrize("code", ["", "----", "AAAA-AAAA-AAAA-AAAA", "ü", "\0"])
def test_a_wrong_code_is_refused(house: House, code: str):
    house.papita.setup.issue_code()
    with pytest.raises(SetupRefused):
        complete(house, code)
    assert house.papita.setup.pending()


def test_a_password_that_is_not_accepted_leaves_the_code_as_it_is(house: House):
    code = house.papita.setup.issue_code()
    with pytest.raises(InvalidInput):
        house.papita.setup.complete(code=code, username="ana", password="short")
    complete(house, code)


def test_a_code_opens_nothing_once_there_is_a_user(house: House):
    code = house.papita.setup.issue_code()
    house.papita.users.create(Actor.operator(), NewUser("ana", PASSWORD, role="administrator"))
    with pytest.raises(SetupRefused):
        complete(house, code, "eve")


@both_engines
def test_of_eight_that_race_with_one_code_one_wins(house: House):
    code = house.papita.setup.issue_code()
    names = [f"user{number}" for number in range(8)]
    outcomes = at_once([lambda name=name: complete(house, code, name) for name in names])
    assert sum(isinstance(outcome, User) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, SetupRefused) for outcome in outcomes) == 7
    assert house.papita.users.count() == 1
    assert house.papita.audit.verify() == []


@both_engines
def test_two_codes_that_are_there_at_once_make_one_administrator(house: House):
    """As two replicas may issue them that start at the same moment."""
    codes = [house.papita.setup.issue_code()]
    house.sql("CREATE TABLE kept AS SELECT * FROM setup_codes")
    codes.append(house.papita.setup.issue_code())
    house.sql("INSERT INTO setup_codes SELECT * FROM kept")
    outcomes = at_once(
        [lambda code=c: complete(house, code, f"u{code[:4]}".lower()) for c in codes]
    )
    assert sum(isinstance(outcome, User) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, SetupRefused) for outcome in outcomes) == 1
