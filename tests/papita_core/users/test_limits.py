"""Limits: counted before anybody looks, ended by themselves, seen and lifted by administrators."""

from __future__ import annotations

from datetime import timedelta

import pytest

from papita_core.actors import Actor
from papita_core.errors import Forbidden, InvalidInput, TooManyAttempts
from papita_core.users.limits import Limit, Lockout, Try, network_of
from tests.papita_core.house import House, at_once, both_engines

FEW = Limit("test.account", 3, timedelta(minutes=5))
ALL = Limit("test.overall", 4, timedelta(minutes=1))


def refused(house: House, *tries: Try) -> int:
    with pytest.raises(TooManyAttempts) as caught:
        house.papita.limits.hit(*tries)
    return caught.value.retry_after


def actions(house: House) -> list[str]:
    return [entry.event.action for entry in house.papita.audit.entries(Actor.operator()).items]


@both_engines
def test_a_limit_is_reached_says_when_it_ends_and_ends(house: House):
    limits, one = house.papita.limits, Try(FEW, "ana", address="192.0.2.1")
    for _ in range(3):
        limits.hit(one)
    assert 299 <= refused(house, one) <= 301
    house.clock.forward(minutes=4)
    # Trying on does not make it longer.
    assert 59 <= refused(house, one) <= 61
    house.clock.forward(minutes=1, seconds=1)
    for _ in range(3):
        limits.hit(one)
    refused(house, one)
    # Once for each window, and not for each try.
    assert actions(house).count("limit.reached") == 2


@both_engines
def test_keys_and_kinds_are_counted_apart(house: House):
    for key in ("ana", "bob"):
        for limit in (FEW, ALL):
            for _ in range(3):
                house.papita.limits.hit(Try(limit, key))


@both_engines
def test_what_is_refused_first_does_not_use_up_the_next(house: House):
    for _ in range(3):
        house.papita.limits.hit(Try(FEW, "ana"), Try(ALL, ""))
    for _ in range(5):
        refused(house, Try(FEW, "ana"), Try(ALL, ""))
    house.papita.limits.hit(Try(FEW, "bob"), Try(ALL, ""))
    refused(house, Try(FEW, "bob"), Try(ALL, ""))


@both_engines
def test_a_good_try_does_not_count(house: House):
    one = Try(FEW, "ana")
    for _ in range(9):
        house.papita.limits.hit(one)
        house.papita.limits.forgive(one)
    house.papita.limits.forgive(one)
    for _ in range(3):
        house.papita.limits.check(one)
        house.papita.limits.hit(one)
    with pytest.raises(TooManyAttempts):
        house.papita.limits.check(one)


@both_engines
def test_of_many_at_once_and_in_two_portals_no_more_get_through(house: House):
    portals = [house.papita, house.opened()]
    calls = [lambda papita=papita: papita.limits.hit(Try(FEW, "ana")) for papita in portals * 12]
    outcomes = [type(outcome) for outcome in at_once(calls)]
    assert outcomes.count(type(None)) == 3
    assert outcomes.count(TooManyAttempts) == 21


@both_engines
def test_administrators_see_lock_outs_and_lift_them(house: House):
    admin, member = house.sign_in("ada", "administrator"), house.sign_in("bob")
    tries = Try(FEW, "bob", user_id=member.user_id, address="192.0.2.66")
    for _ in range(3):
        house.papita.limits.hit(tries, Try(ALL, "", address="192.0.2.66"))
    (lockout,) = house.papita.limits.locked(admin)
    assert lockout == Lockout(
        "test.account",
        lockout.key,
        member.user_id,
        "bob",
        "192.0.2.66",
        3,
        lockout.since,
        lockout.since + FEW.window,
    )
    with pytest.raises(Forbidden):
        house.papita.limits.locked(member)
    with pytest.raises(Forbidden):
        house.papita.limits.clear(member, user_id=member.user_id)
    with pytest.raises(InvalidInput):
        house.papita.limits.clear(admin)
    assert house.papita.limits.clear(admin, key=lockout.key) == 1
    assert house.papita.limits.locked(admin) == []
    house.papita.limits.hit(tries)
    assert house.papita.limits.clear(admin, user_id=member.user_id) == 1
    assert house.papita.limits.clear(admin, address="192.0.2.66") == 1
    assert house.papita.limits.clear(admin, address="192.0.2.66") == 0
    assert actions(house).count("limit.cleared") == 3


def test_a_lock_out_that_is_over_is_not_listed(house: House):
    for _ in range(3):
        house.papita.limits.hit(Try(FEW, "ana"))
    assert len(house.papita.limits.locked(Actor.operator())) == 1
    house.clock.forward(minutes=6)
    assert house.papita.limits.locked(Actor.operator()) == []
    assert house.papita.housekeeping.run_once()["attempt_counters"] == 1


def test_what_is_counted_is_kept_as_a_hash(house: House):
    house.papita.limits.hit(Try(FEW, "my password by mistake"))
    (row,) = house.sql("SELECT * FROM attempt_counters")
    assert "mistake" not in repr(row)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::2", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("no address", "no address"),
    ],
)
def test_a_household_counts_as_one_address(address: str, network: str):
    assert network_of(address) == network


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "1 second."), (59, "59 seconds."), (100, "2 minutes."), (301, "6 minutes.")],
)
def test_when_to_try_again_is_said_in_words(seconds: int, words: str):
    assert str(TooManyAttempts(seconds)) == f"Too many attempts. Try again in {words}"
