"""Attack: find out by the time that an answer takes who has an account, at sign-up and where a new
password is asked for.

Hashes are real but cost less than usual, and answers come on shorter beats: the less they take, the
sooner all else would be noticed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from papita_core.actors import Actor
from papita_core.users import passwords, sign_up
from papita_core.users.service import NewUser
from tests.papita_core.house import House, both_engines
from tests.timing import SAME, times_of, welch

OPERATOR = Actor.operator()
NEW = "an unlikely barn door"


@pytest.fixture(autouse=True)
def _cheaper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "MEMORY_KIB", 8 * 1024)
    monkeypatch.setattr(passwords, "ITERATIONS", 1)
    monkeypatch.setattr(sign_up, "ANSWER_EVERY", 0.06)


@pytest.fixture
def people(house: House) -> House:
    for name in ("ana", "gone"):
        house.user(name)
    house.sql("UPDATE users SET email = username || '@example.org'")
    house.sql("UPDATE users SET email_key = email")
    house.sql("UPDATE users SET disabled_at = created_at WHERE username = 'gone'")
    return house


def forgotten(house: House, name: str) -> Callable[[], None]:
    def ask() -> None:
        # After the longest window: limits are not what is measured.
        house.clock.forward(minutes=61)
        house.papita.sign_up.forgotten(name, address="192.0.2.1")

    return ask


@both_engines
def test_user_enumeration_by_time_on_reset_is_not_possible(people: House):
    unknown, *known = times_of(
        *(forgotten(people, name) for name in ("eva", "ana", "gone", "ana@example.org"))
    )
    assert [t for times in known if abs(t := welch(times, unknown)) >= SAME] == []


@both_engines
def test_user_enumeration_by_time_on_sign_up_is_not_possible(people: House):
    people.papita.policies.put(OPERATOR, "sign-up", "open")
    numbers = itertools.count(1000)

    def asking(name: str | None, email: str | None = None) -> Callable[[], None]:
        def ask() -> None:
            people.clock.forward(minutes=61)
            number = next(numbers)
            new = NewUser(
                name or f"user{number}", NEW, "Somebody", email or f"user{number}@example.org"
            )
            people.papita.sign_up.sign_up(new, address="192.0.2.1")

        return ask

    free, name_taken, email_taken = times_of(
        asking(None), asking("ana"), asking(None, "ana@example.org")
    )
    assert [t for times in (name_taken, email_taken) if abs(t := welch(times, free)) >= SAME] == []
