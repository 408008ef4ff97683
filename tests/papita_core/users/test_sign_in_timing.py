"""Attack: find out by the time that a refusal takes which accounts there are.

Hashes are real but cost less than usual: the less they cost, the sooner all else would be noticed.
That hash and dummy take the same work is in test_sign_in.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from papita_core.errors import SignInRefused
from papita_core.users import passwords, sign_in
from papita_core.users.passwords import hash_password
from tests.papita_core.house import PASSWORD, House, both_engines
from tests.timing import SAME, times_of, welch


@pytest.fixture(autouse=True)
def _cheaper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "MEMORY_KIB", 8 * 1024)
    monkeypatch.setattr(passwords, "ITERATIONS", 1)


@pytest.fixture
def people(house: House) -> House:
    for name in ("ana", "gone", "keyless"):
        house.user(name)
    house.sql("UPDATE users SET password_hash = :hash", hash=hash_password(PASSWORD))
    house.sql("UPDATE users SET password_hash = '' WHERE username = 'keyless'")
    house.sql("UPDATE users SET email_key = username || '@example.org'")
    house.sql("UPDATE users SET disabled_at = created_at WHERE username = 'gone'")
    return house


def refused(house: House, name: str) -> Callable[[], None]:
    def attempt() -> None:
        # After the longest window: limits are not what is measured.
        house.clock.forward(minutes=11)
        with pytest.raises(SignInRefused):
            house.papita.sign_in.authenticate(name, "wrong", address="192.0.2.1")

    return attempt


@both_engines
def test_user_enumeration_by_time_is_not_possible(people: House):
    unknown, *known = times_of(
        *(refused(people, name) for name in ("eva", "ana", "gone", "keyless"))
    )
    assert [t for times in known if abs(t := welch(times, unknown)) >= SAME] == []


def test_neither_is_it_by_e_mail(people: House):
    known, unknown = times_of(
        refused(people, "ana@example.org"), refused(people, "eva@example.org")
    )
    assert abs(welch(known, unknown)) < SAME


def test_a_refusal_without_the_dummy_would_be_noticed(
    people: House, monkeypatch: pytest.MonkeyPatch
):
    """That the tests above could fail."""
    dummy, checked = people.papita.sign_in._dummy, passwords.verify_password

    def hasty(password: str, encoded: str) -> bool:
        return encoded != dummy and checked(password, encoded)

    monkeypatch.setattr(sign_in, "verify_password", hasty)
    known, unknown = times_of(refused(people, "ana"), refused(people, "eva"))
    assert welch(known, unknown) > SAME
