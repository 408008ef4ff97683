"""Names and passwords: the same words and the same work, and limits that end by themselves."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import timedelta
from functools import partial

import pytest

from papita_core.actors import Actor
from papita_core.audit.service import AuditFilter, Event
from papita_core.errors import ApprovalPending, InvalidInput, SignInRefused, TooManyAttempts
from papita_core.users import passwords, sign_in
from papita_core.users.limits import Limit
from papita_core.users.passwords import (
    Strength,
    dummy_hash,
    hash_password,
    problem_with,
    strength,
    verify_password,
)
from papita_core.users.service import NewUser
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


HOME, ELSEWHERE = "10.0.0.1", "192.0.2.66"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real hashes that cost little: here it is the counting that matters."""
    monkeypatch.setattr(passwords, "MEMORY_KIB", 64)
    monkeypatch.setattr(passwords, "ITERATIONS", 1)


def account(house: House) -> str:
    """The id of a new user ana, whose hash costs as much as others made now."""
    user_id = house.user("ana")
    house.sql("UPDATE users SET password_hash = :encoded", encoded=hash_password(PASSWORD))
    return user_id


def attempt(house: House, name: str, password: str = "wrong", address: str = ELSEWHERE) -> str:
    """What comes of it, in a word."""
    try:
        house.papita.sign_in.authenticate(name, password, address=address)
    except (SignInRefused, TooManyAttempts) as error:
        return error.code
    return "in"


def failed(house: House) -> list[Event]:
    page = house.papita.audit.entries(Actor.operator(), AuditFilter(action="sign-in.failed"))
    return [entry.event for entry in page.items]


@both_engines
@pytest.mark.usefixtures("quick")
def test_an_e_mail_signs_in_in_every_spelling(house: House):
    account(house)
    house.sql("UPDATE users SET email = 'Ana@Example.org', email_key = 'ana@example.org'")
    for name in ("ana@example.org", " ANA@example.ORG "):
        assert house.papita.sign_in.authenticate(name, PASSWORD).username == "ana"
    for name in ("@", "ana@", "ana@example.org\0", "a@b." + "x" * 400):
        assert attempt(house, name, PASSWORD) == "sign-in-refused"


@both_engines
@pytest.mark.usefixtures("quick")
def test_an_account_without_a_password_is_refused_like_others(house: House):
    account(house)
    house.sql("UPDATE users SET password_hash = ''")
    for password in ("", PASSWORD):
        assert attempt(house, "ana", password) == "sign-in-refused"


@both_engines
@pytest.mark.usefixtures("quick")
def test_who_waits_for_approval_is_told_so_with_the_right_password_alone(house: House):
    account(house)
    house.sql("UPDATE users SET awaits_approval_since = created_at")
    with pytest.raises(SignInRefused):
        house.papita.sign_in.authenticate("ana", "wrong")
    with pytest.raises(ApprovalPending):
        house.papita.sign_in.authenticate("ana", PASSWORD)
    assert [event.outcome for event in failed(house)] == ["awaits-approval", "refused"]


@both_engines
@pytest.mark.usefixtures("quick")
def test_five_failures_close_the_door_for_minutes_and_no_longer(house: House):
    account(house)
    assert [attempt(house, "ana") for _ in range(5)] == ["sign-in-refused"] * 5
    with pytest.raises(TooManyAttempts) as caught:
        house.papita.sign_in.authenticate("ana", PASSWORD, address=ELSEWHERE)
    assert 1 <= caught.value.retry_after <= 301
    house.clock.forward(seconds=caught.value.retry_after)
    assert attempt(house, "ana", PASSWORD) == "in"


@pytest.mark.usefixtures("quick")
def test_a_stranger_elsewhere_cannot_keep_the_owner_out(house: House):
    account(house)
    assert attempt(house, "ana") == "sign-in-refused"
    for _ in range(5):
        attempt(house, "ana")
    assert attempt(house, "ana") == "rate-limited"
    assert attempt(house, "ana", PASSWORD, HOME) == "in"


@both_engines
@pytest.mark.usefixtures("quick")
def test_a_stranger_with_many_addresses_cannot_lock_a_user_out(house: House):
    """Attack: guess, from more addresses than are ever counted, until the account is closed."""
    house.papita.sessions.start(account(house), address=HOME)
    tried = [attempt(house, "ana", address=f"192.0.2.{number}") for number in range(25)]
    assert tried == ["sign-in-refused"] * 20 + ["rate-limited"] * 5
    # Its owner, where they were before, notices nothing, and is not let off their own limit.
    assert attempt(house, "ana", PASSWORD, HOME) == "in"
    assert [attempt(house, "ana", address=HOME) for _ in range(6)][-2:] == [
        "sign-in-refused",
        "rate-limited",
    ]
    # Where they have never been they wait for minutes.
    assert attempt(house, "ana", PASSWORD, "198.51.100.7") == "rate-limited"
    house.clock.forward(minutes=10, seconds=1)
    assert attempt(house, "ana", PASSWORD, "198.51.100.7") == "in"


@both_engines
@pytest.mark.usefixtures("quick")
def test_brute_force_from_one_address_is_stopped_whatever_the_names(house: House):
    """Attack: one address tries a common password with one name after another."""
    house.papita.sessions.start(account(house), address=HOME)
    tried = [attempt(house, f"name{number}") for number in range(32)]
    assert tried == ["sign-in-refused"] * 30 + ["rate-limited"] * 2
    assert attempt(house, "ana", PASSWORD) == "rate-limited"
    assert attempt(house, "ana", PASSWORD, HOME) == "in"
    # Of IPv6 a whole network is one address.
    tried = [attempt(house, f"n{n}", address=f"2001:db8::{n:x}") for n in range(1, 32)]
    assert tried[-2:] == ["sign-in-refused", "rate-limited"]


@pytest.mark.usefixtures("quick")
def test_brute_force_from_many_addresses_is_stopped(house: House, monkeypatch: pytest.MonkeyPatch):
    """Attack: each address tries one name once."""
    monkeypatch.setattr(sign_in, "OVERALL", Limit("sign-in.overall", 8, timedelta(minutes=1)))
    house.papita.sessions.start(account(house), address=HOME)
    tried = [attempt(house, f"name{number}", address=f"192.0.2.{number}") for number in range(10)]
    assert tried == ["sign-in-refused"] * 8 + ["rate-limited"] * 2
    assert attempt(house, "ana", PASSWORD, HOME) == "in"
    house.clock.forward(minutes=1, seconds=1)
    assert attempt(house, "name", address="198.51.100.7") == "sign-in-refused"


@pytest.mark.usefixtures("quick")
def test_a_name_and_an_e_mail_do_not_tell_that_they_belong_together(house: House):
    account(house)
    house.sql("UPDATE users SET email_key = 'ana@example.org'")
    tried = [attempt(house, name) for name in ("ana", "ana@example.org") * 3]
    assert tried == ["sign-in-refused"] * 6


@pytest.mark.usefixtures("quick")
def test_success_is_never_counted(house: House):
    account(house)
    assert [attempt(house, "ana", PASSWORD) for _ in range(6)] == ["in"] * 6


@both_engines
@pytest.mark.usefixtures("quick")
def test_tries_at_the_same_moment_and_at_two_portals_are_counted_one_by_one(house: House):
    account(house)
    portals = [house.papita, house.opened()]
    calls = [
        lambda papita=papita: papita.sign_in.authenticate("ana", "wrong", address=HOME)
        for papita in portals * 6
    ]
    kinds = [type(outcome) for outcome in at_once(calls)]
    assert kinds.count(SignInRefused) == 5
    assert kinds.count(TooManyAttempts) == 7


@both_engines
@pytest.mark.usefixtures("quick")
def test_failures_are_in_the_audit_log_and_limits_once(house: House):
    ana = account(house)
    for _ in range(8):
        attempt(house, "ana")
    attempt(house, "a password by mistake")
    nobody, *others = failed(house)
    assert (nobody.owner_id, nobody.actor_id) == (None, None)
    assert len(others) == 5
    for event in others:
        assert (event.owner_id, event.actor_id, event.outcome) == (ana, None, "refused")
        assert event.details == {"address": ELSEWHERE, "purpose": "sign-in"}
    entries = house.papita.audit.entries(Actor.operator()).items
    (limited,) = [entry.event for entry in entries if entry.event.action == "limit.reached"]
    assert limited.owner_id == ana
    assert "mistake" not in repr(entries)


@pytest.mark.usefixtures("quick")
def test_the_log_of_the_program_has_what_a_sealed_vault_cannot_record(
    house: House, caplog: pytest.LogCaptureFixture
):
    house.papita.sessions.start(account(house), address=HOME)
    house.key(house.sign_in("bob"))
    sealed = house.opened(PAPITA_MASTER_KEY="ff" * 32)
    assert sealed.ring.sealed
    with pytest.raises(SignInRefused):
        sealed.sign_in.authenticate("ana", "wrong")
    user = sealed.sign_in.authenticate("ana", PASSWORD)
    started = sealed.sessions.start(user.id)
    sealed.sessions.end(started.session.id)
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    for action in ("sign-in.failed", "session.started", "session.ended"):
        assert any(action in line and user.id in line for line in said)


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
