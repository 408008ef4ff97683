"""What strangers ask for at the door: accounts and new passwords, and nobody learns who is here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache

import pytest

from papita_core.actors import Actor
from papita_core.errors import (
    ApprovalPending,
    InvalidInput,
    SignInRefused,
    SignUpClosed,
    TooManyAttempts,
)
from papita_core.users.passwords import hash_password
from papita_core.users.service import NewUser
from papita_core.users.sign_up import ALL_SIGN_UPS, RESETS, SIGN_UPS
from tests.papita_core.house import PASSWORD, House, both_engines

OPERATOR = Actor.operator()
MODULES = ("service", "sign_up")
hashed = cache(hash_password)


@pytest.fixture(autouse=True)
def _hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password is hashed once, since that takes a tenth of a second on purpose."""
    for module in MODULES:
        monkeypatch.setattr(f"papita_core.users.{module}.hash_password", hashed)
    monkeypatch.setattr("papita_core.users.sign_up.ANSWER_EVERY", 0.001)


def allow(house: House, policy: str) -> None:
    house.papita.policies.put(OPERATOR, "sign-up", policy)


def let_through(call: Callable[[int], object]) -> int:
    """How many calls, each with its number, there are before one is refused."""
    for number in range(200):
        try:
            call(number)
        except TooManyAttempts:
            return number
    return 200


def asked(house: House) -> list[str]:
    return [
        user.username for user in house.papita.users.page(OPERATOR).items if user.reset_asked_at
    ]


def test_nobody_signs_up_unless_an_administrator_allows_it(house: House):
    with pytest.raises(SignUpClosed):
        house.papita.sign_up.sign_up(NewUser("eve", PASSWORD))
    assert house.papita.users.count() == 0


@both_engines
def test_open_sign_up_makes_members_and_nothing_else(house: House):
    allow(house, "open")
    new = NewUser("Eve", PASSWORD, "Eve", "eve@example.org", role="administrator")
    assert house.papita.sign_up.sign_up(new) == "open"
    user = house.papita.sign_in.authenticate("eve", PASSWORD)
    assert (user.role, user.email) == ("member", "eve@example.org")
    assert house.sql("SELECT email_verified_at FROM users") == [(None,)]


@both_engines
def test_who_signs_up_for_approval_waits(house: House):
    allow(house, "approval")
    assert house.papita.sign_up.sign_up(NewUser("eve", PASSWORD)) == "approval"
    with pytest.raises(ApprovalPending):
        house.papita.sign_in.authenticate("eve", PASSWORD)
    assert house.papita.users.counts(OPERATOR).waiting == 1
    house.papita.users.approve(OPERATOR, "eve")
    assert house.papita.sign_in.authenticate("eve", PASSWORD)


@both_engines
@pytest.mark.parametrize("policy", ["open", "approval"])
def test_a_taken_name_or_e_mail_gets_the_same_answer(house: House, policy: str):
    allow(house, policy)
    with house.papita.database.write() as session:
        new = NewUser("ana", PASSWORD, "", "ana@example.org")
        house.papita.users.add(session, new, "", actor_id="test")
    other = "an entirely other one"
    sign_up = house.papita.sign_up.sign_up
    answers = {
        sign_up(NewUser("free", other), address="192.0.2.1"),
        sign_up(NewUser("ANA", other), address="192.0.2.2"),
        sign_up(NewUser("ben", other, "", "Ana@example.org"), address="192.0.2.3"),
    }
    assert answers == {policy}
    assert [user.username for user in house.papita.users.list(OPERATOR)] == ["ana", "free"]
    with pytest.raises(SignInRefused):
        house.papita.sign_in.authenticate("ana", other)
    outcomes = [
        entry.event.outcome
        for entry in house.papita.audit.entries(OPERATOR).items
        if entry.event.action == "user.created"
    ]
    assert outcomes == ["taken", "taken", "ok", "ok"]


def test_what_is_not_accepted_is_said_and_not_counted(house: House):
    allow(house, "open")
    for _ in range(SIGN_UPS.most + 1):
        with pytest.raises(InvalidInput):
            house.papita.sign_up.sign_up(NewUser("eve", "short"), address="192.0.2.1")
    house.papita.sign_up.sign_up(NewUser("eve", PASSWORD), address="192.0.2.1")


@both_engines
def test_sign_ups_are_limited_per_address_and_in_all(house: House, monkeypatch: pytest.MonkeyPatch):
    allow(house, "approval")
    monkeypatch.setattr("papita_core.users.sign_up.hash_password", lambda _: "")
    sign_up = house.papita.sign_up.sign_up
    made = let_through(lambda n: sign_up(NewUser(f"eve{n}", PASSWORD), address="192.0.2.1"))
    assert made == SIGN_UPS.most
    made += let_through(lambda n: sign_up(NewUser(f"x{n}", PASSWORD), address=f"198.51.100.{n}"))
    assert made == ALL_SIGN_UPS.most
    with pytest.raises(TooManyAttempts) as refused:
        sign_up(NewUser("late", PASSWORD), address="192.0.2.9")
    assert 0 < refused.value.retry_after <= 3601
    house.clock.forward(hours=1)
    sign_up(NewUser("late", PASSWORD), address="192.0.2.1")


@both_engines
def test_who_forgot_the_password_is_noted_for_administrators(house: House):
    for name in ("ana", "ben", "off"):
        house.user(name)
    house.sql("UPDATE users SET email = 'b@x.org', email_key = 'b@x.org' WHERE username = 'ben'")
    house.papita.users.set_disabled(OPERATOR, "off", True)
    forgotten = house.papita.sign_up.forgotten
    for name in (" ANA ", "B@X.org", "off", "nobody", "nobody@x.org", "", "\0", "x" * 5000):
        assert forgotten(name) is None
    assert asked(house) == ["ana", "ben"]
    house.papita.users.reset_password(OPERATOR, "ana", "another long one")
    house.papita.links.reset_link(OPERATOR, "ben")
    assert asked(house) == []


@pytest.mark.parametrize("name", ["ana", "nobody"])
def test_asking_for_a_password_is_limited_whoever_it_is_for(house: House, name: str):
    house.user("ana")
    forgotten = house.papita.sign_up.forgotten
    for _ in range(3):
        forgotten(name, address="192.0.2.1")
    with pytest.raises(TooManyAttempts):
        forgotten(name, address="192.0.2.1")
    forgotten(name, address="192.0.2.2")  # a stranger does not keep the owner from asking
    others = let_through(lambda n: forgotten(f"other{n}", address="192.0.2.1"))
    assert others == RESETS.most - 3


def test_a_sealed_vault_keeps_nobody_from_asking(house: House, caplog: pytest.LogCaptureFixture):
    house.user("ana")
    (house.folder / "keys" / "master.key").unlink()
    sealed = house.opened()
    assert sealed.ring.sealed
    with caplog.at_level(logging.WARNING):
        sealed.sign_up.forgotten("ana")
        sealed.sign_up.forgotten("nobody")
    assert asked(house) == ["ana"]
    assert caplog.text.count("user.reset-asked") == 2
