"""Names and passwords: the same words and the same work, and limits that end by themselves."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import pytest
from limits import RateLimitItemPerMinute

from papita_core.actors import Actor
from papita_core.errors import InvalidInput, SignInRefused, TooManyAttempts
from papita_core.users import passwords, sign_in
from papita_core.users.passwords import (
    Strength,
    dummy_hash,
    hash_password,
    problem_with,
    strength,
    verify_password,
)
from papita_core.users.service import NewUser, User
from tests.papita_core.house import PASSWORD, ROOT, House, at_once, both_engines


def test_a_hash_is_argon2id_salted_and_fits_its_password_alone():
    encoded = hash_password(PASSWORD)
    assert encoded.startswith("$argon2id$v=19$m=65536,t=2,p=1$")
    assert encoded != hash_password(PASSWORD)
    assert verify_password(PASSWORD, encoded)
    for wrong in (PASSWORD + " ", PASSWORD[:-1], PASSWORD.upper(), "", "x" * 5000):
        assert not verify_password(wrong, encoded)


@pytest.mark.parametrize("encoded", ["", "plain", "$argon2id$", "$2b$12$abc", "$argon2id$v=19$m=8"])
def test_what_is_no_hash_fits_nothing(encoded: str):
    assert not verify_password(PASSWORD, encoded)


def test_the_dummy_takes_the_same_work_as_a_real_hash():
    real = hash_password(PASSWORD)
    parameters = [encoded.split("$")[1:4] for encoded in (real, dummy_hash())]
    assert parameters[0] == parameters[1]
    assert len(real) == len(dummy_hash())
    times: dict[str, list[float]] = {real: [], dummy_hash(): []}
    for _ in range(3):
        for encoded, taken in times.items():
            begin = time.thread_time()
            assert not verify_password("something else", encoded)
            taken.append(time.thread_time() - begin)
    fastest = [min(taken) for taken in times.values()]
    assert max(fastest) < 2 * min(fastest)


@pytest.mark.parametrize(
    ("password", "words"),
    [
        ("short", "at least 10"),
        ("x" * 1025, "at most 1024"),
        (" leading space", "begin or end"),
        ("trailing space ", "begin or end"),
        ("aabbaabbaabb", "four different"),
        ("my name is ana!", "user name"),
        ("my name is ANA!", "user name"),
        ("qwertyuiop", "leaked"),
        ("QWERTYUIOP", "leaked"),
        ("password123", "leaked"),
        ("Password1!", "very common password"),
        ("1234554321", "leaked"),
        ("abcdefghijklm", "abc"),
        ("trustno1trustno1", "Repeating"),
        ("12.12.1984", "Dates"),
        ("lockhart19", "name or e-mail"),
    ],
)
def test_a_password_that_is_not_accepted_is_told_why(password: str, words: str):
    problem = problem_with(password, username="ana", words=("Ana", "a.lockhart@example.org"))
    assert problem is not None
    assert words in problem
    assert password not in problem


@pytest.mark.parametrize(
    "password",
    [
        PASSWORD,
        "correct-horse-7",
        "try-papita-here",
        "a quiet harvest morning",
        "Zq7 vexing otter " * 40 + "end",
    ],
)
def test_a_password_that_is_hard_enough_is_accepted(password: str):
    assert problem_with(password, username="ana") is None


def test_strength_rises_with_what_is_added_and_says_what_would_help():
    scores = [strength(word) for word in ("potatoes", "potatoes12", "potatoes grow below")]
    assert [found.score for found in scores] == sorted(found.score for found in scores)
    assert scores[0].score < 2 <= scores[-1].score
    assert scores[0].advice
    assert not scores[-1].advice
    assert strength("").score == 0
    own = strength("quillfeather 19", "quillfeather@example.org")
    assert own.score < strength("quillfeather 19").score


def test_judging_takes_no_longer_for_what_is_very_long():
    begin = time.thread_time()
    assert strength("1@aB" * 256).score < 4
    assert time.thread_time() - begin < 1


def test_many_judge_at_once_each_by_their_own_words():
    words = ["marguerite", "bartholomew"] * 4
    found = at_once([partial(strength, "marguerite", word) for word in words])
    assert found == [strength("marguerite", word) for word in words]
    assert len({item.advice for item in found if isinstance(item, Strength)}) == 2


def test_the_lists_are_read_only_where_a_password_is_judged():
    """Else every process would start a sixth of a second later."""
    script = (
        "import sys, papita_core.app, papita_core.api.app; assert 'zxcvbn' not in sys.modules;"
        "from papita_core.users.passwords import warm_up; warm_up(); assert 'zxcvbn' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


@both_engines
def test_every_spelling_of_a_name_signs_in(house: House):
    house.user("ana.b")
    for name in ("ana.b", " ANA.B ", "\uff21na.b"):
        assert house.papita.sign_in.authenticate(name, PASSWORD).username == "ana.b"


def test_every_refusal_has_the_same_words_and_costs_one_check(
    house: House, monkeypatch: pytest.MonkeyPatch
):
    house.user("ana")
    house.user("bob")
    house.papita.users.set_disabled(Actor.operator(), "bob", True)
    checks: list[str] = []

    def counted(password: str, encoded: str) -> bool:
        checks.append(encoded[:31])
        return passwords.verify_password(password, encoded)

    monkeypatch.setattr(sign_in, "verify_password", counted)
    said = []
    for name, password in (
        ("ana", "wrong"),
        ("ana", ""),
        ("nobody", PASSWORD),
        ("", ""),
        ("no\0body", PASSWORD),
        ("x" * 500, PASSWORD),
        ("bob", PASSWORD),
    ):
        with pytest.raises(SignInRefused) as caught:
            house.papita.sign_in.authenticate(name, password, address=name)
        said.append(str(caught.value))
    assert len(set(said)) == 1
    assert len(checks) == len(said)
    assert len(set(checks)) == 1


@both_engines
def test_names_that_no_user_can_have_are_refused_like_others(house: House):
    for name in ("", "no\0body", "x" * 500, "\ud800"):
        with pytest.raises(SignInRefused):
            house.papita.sign_in.authenticate(name, "")


def fail(house: House, name: str, address: str) -> None:
    with pytest.raises(SignInRefused):
        house.papita.sign_in.authenticate(name, "wrong", address=address)


def move_time(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + seconds)


def test_five_failures_close_the_door_for_a_minute_and_no_longer(
    house: House, monkeypatch: pytest.MonkeyPatch
):
    house.user("ana")
    for _ in range(5):
        fail(house, "ana", "10.0.0.1")
    with pytest.raises(TooManyAttempts) as caught:
        house.papita.sign_in.authenticate("ana", PASSWORD, address="10.0.0.1")
    assert 1 <= caught.value.retry_after <= 61
    move_time(monkeypatch, caught.value.retry_after)
    assert house.papita.sign_in.authenticate("ana", PASSWORD, address="10.0.0.1")


def test_a_stranger_elsewhere_cannot_keep_the_owner_out(house: House):
    house.user("ana")
    for _ in range(5):
        fail(house, "ana", "192.0.2.66")
    with pytest.raises(TooManyAttempts):
        house.papita.sign_in.authenticate("ana", "wrong", address="192.0.2.66")
    assert house.papita.sign_in.authenticate("ana", PASSWORD, address="10.0.0.1")


def test_an_address_that_tries_many_names_is_stopped(house: House, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sign_in, "FAILURES_PER_ADDRESS", RateLimitItemPerMinute(6))
    for number in range(6):
        fail(house, f"name{number}", "192.0.2.66")
    with pytest.raises(TooManyAttempts):
        house.papita.sign_in.authenticate("one-more", "wrong", address="192.0.2.66")


def test_success_is_never_counted(house: House):
    house.user("ana")
    for _ in range(6):
        house.papita.sign_in.authenticate("ana", PASSWORD, address="10.0.0.1")


def test_tries_at_the_same_moment_are_counted_one_by_one(house: House):
    house.user("ana")

    def attempt() -> User:
        return house.papita.sign_in.authenticate("ana", "wrong", address="10.0.0.1")

    calls: list[Callable[[], User]] = [attempt] * 12
    kinds = [type(outcome) for outcome in at_once(calls)]
    assert kinds.count(SignInRefused) == 5
    assert kinds.count(TooManyAttempts) == 7


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("username", ""),
        ("username", "-ana"),
        ("username", "a na"),
        ("username", "ana\0"),
        ("username", "x" * 65),
        ("username", "änne"),
        ("display_name", "x" * 201),
        ("display_name", "Ana\0"),
        ("display_name", "Ana\x1b[2J"),
        ("email", "no address"),
        ("email", "a@b\0.c"),
        ("role", "god"),
        ("password", "short"),
    ],
)
def test_a_user_that_cannot_be_is_refused_by_field(house: House, field: str, value: str):
    fields = {"username": "ana", "password": PASSWORD, field: value}
    with pytest.raises(InvalidInput) as caught:
        house.papita.users.create(Actor.operator(), NewUser(**fields))
    names = {"display_name": "displayName"}
    assert list(caught.value.errors) == [names.get(field, field)]
