"""Passkeys: an answer counts once, here, for its owner, and a copy is noticed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from papita_core.actors import Actor
from papita_core.audit.service import AuditFilter
from papita_core.errors import (
    AlreadyExists,
    Conflict,
    FactorRefused,
    Forbidden,
    InvalidInput,
    LastFactor,
    NotFound,
    ReauthenticationRequired,
    TooManyAttempts,
    VaultSealed,
)
from papita_core.users.factors import PASSKEY
from papita_core.users.passkeys import ANSWER_WITHIN, MOST, REFUSED, TRIES
from tests.papita_core.authenticator import Authenticator, app, passkey
from tests.papita_core.house import House, at_once, both_engines

OPERATOR = Actor.operator()


def events(house: House, action: str) -> list[dict[str, object]]:
    found = house.papita.audit.entries(OPERATOR, AuditFilter(action=action)).items
    return [entry.event.details for entry in found]


def enter(house: House, key: Authenticator, /, **wrong: Any) -> str:
    """Signs in at the door; the user's name."""
    question = house.papita.passkeys.ask_anybody()
    answer = key.get(question.options, **wrong)
    return house.papita.passkeys.verify(question, "sign-in", answer).username


def refused(use: Callable[[], object]) -> None:
    with pytest.raises(FactorRefused) as caught:
        use()
    assert str(caught.value) == REFUSED


@both_engines
def test_a_passkey_signs_in_without_a_name(house: House):
    ana = house.sign_in("ana")
    laptop = passkey(house, ana, "  My   laptop ")
    phone = passkey(house, ana, "Phone", count=None)
    ben = passkey(house, house.sign_in("ben"))
    for key, name in (
        (laptop, "ana"),
        (ben, "ben"),
        (phone, "ana"),
        (phone, "ana"),
        (laptop, "ana"),
    ):
        assert enter(house, key) == name
    assert house.papita.factors.of(ana.user_id) == (PASSKEY,)
    first, second = house.papita.passkeys.list(ana)
    assert (first.name, second.name) == ("My laptop", "Phone")
    assert first.last_used_at is not None
    assert first.cloned_at is second.cloned_at is None
    assert events(house, "factor.added")[0] == {"factor": "passkey", "verified": True}


def test_what_the_browser_is_asked(house: House):
    ana = house.sign_in("ana")
    key = passkey(house, ana)
    options = house.papita.passkeys.ask_to_register(ana).options
    assert options["rp"] == {"name": "Papita", "id": "localhost"}
    assert options["user"]["name"] == "ana"
    assert [item["alg"] for item in options["pubKeyCredParams"]] == [-7, -257]
    assert options["authenticatorSelection"]["residentKey"] == "required"
    assert options["attestation"] == "none"
    (excluded,) = options["excludeCredentials"]
    assert excluded["transports"] == ["hybrid", "internal"]  # what is not known is left out
    anybody = house.papita.passkeys.ask_anybody()
    assert anybody.options["allowCredentials"] == []
    assert anybody.options["userVerification"] == "required"
    second = house.papita.passkeys.ask(ana.user_id, "second-step").options
    assert second["userVerification"] == "preferred"
    assert second["allowCredentials"] == [excluded]
    assert house.papita.passkeys.ask(ana.user_id, "proof").options["userVerification"] == "required"
    assert anybody.options["challenge"] not in repr(anybody)
    del key


@pytest.mark.parametrize(
    "wrong",
    [
        {"origin": "http://localhost:3001"},
        {"origin": "https://localhost:3000"},
        {"origin": "http://evil.example"},
        {"rp_id": "evil.example"},
        {"kind": "webauthn.create"},
        {"key": ec.generate_private_key(ec.SECP256R1())},
        {"handle": b""},
        {"handle": b"somebody else"},
    ],
    ids=lambda wrong: "-".join(f"{name}" for name in wrong),
)
def test_an_answer_that_does_not_fit_is_refused(shared_house: House, wrong: dict[str, Any]):
    name = f"ana{shared_house.papita.users.count()}"
    ana = shared_house.sign_in(name)
    key = passkey(shared_house, ana)
    refused(lambda: enter(shared_house, key, **wrong))
    assert events(shared_house, "factor.refused")[0] == {"factor": "passkey"}
    assert enter(shared_house, key) == name
    (info,) = shared_house.papita.passkeys.list(ana)
    assert info.cloned_at is None


@both_engines
def test_an_answer_counts_once_and_for_its_own_question(house: House):
    key = passkey(house, house.sign_in("ana"), count=None)
    passkeys = house.papita.passkeys
    question, another = passkeys.ask_anybody(), passkeys.ask_anybody()
    answer = key.get(question.options)
    assert passkeys.verify(question, "sign-in", answer).username == "ana"
    refused(lambda: passkeys.verify(question, "sign-in", answer))
    refused(lambda: passkeys.verify(another, "sign-in", answer))
    racing = passkeys.ask_anybody()
    answer = key.get(racing.options)
    results = at_once([lambda: passkeys.verify(racing, "sign-in", answer)] * 4)
    assert sum(isinstance(result, FactorRefused) for result in results) == 3


def test_a_question_is_for_one_purpose_and_times_out(house: House):
    ana = house.sign_in("ana")
    key = passkey(house, ana, count=None)
    passkeys = house.papita.passkeys
    question = passkeys.ask(ana.user_id, "second-step")
    refused(lambda: passkeys.verify(question, "proof", key.get(question.options)))
    late = passkeys.ask_anybody()
    answer = key.get(late.options)
    house.clock.forward(seconds=ANSWER_WITHIN.total_seconds())
    with pytest.raises(FactorRefused, match="too long"):
        passkeys.verify(late, "sign-in", answer)


def test_a_passkey_of_somebody_else_is_no_second_factor(house: House):
    ana, ben = house.sign_in("ana"), house.sign_in("ben")
    passkey(house, ana)
    foreign = passkey(house, ben)
    for purpose in ("second-step", "proof"):
        question = house.papita.passkeys.ask(ana.user_id, purpose)
        for handle in (None, b"", ana.user_id.encode()):
            answer = foreign.get(question.options, handle=handle)
            refused(lambda q=question, a=answer, p=purpose: house.papita.passkeys.verify(q, p, a))


def test_who_was_not_verified_has_one_factor_alone(house: House):
    """Whoever found a key that asks for nothing is not let in by it, but behind a password."""
    ana = house.sign_in("ana")
    key = passkey(house, ana, verifies=False)
    refused(lambda: enter(house, key))
    proof = house.papita.passkeys.ask(ana.user_id, "proof")
    refused(lambda: house.papita.passkeys.verify(proof, "proof", key.get(proof.options)))
    second = house.papita.passkeys.ask(ana.user_id, "second-step")
    # Keys of this kind often say no handle where they were named.
    answer = key.get(second.options, handle=b"")
    assert house.papita.passkeys.verify(second, "second-step", answer).id == ana.user_id


@both_engines
def test_a_counter_that_does_not_grow_is_noticed(house: House):
    ana = house.sign_in("ana")
    key = passkey(house, ana)
    enter(house, key)
    enter(house, key)
    copy = replace(key, count=0)
    refused(lambda: enter(house, copy))
    assert key.count is not None
    refused(lambda: enter(house, replace(key, count=key.count - 1)))  # the same number again
    refused(lambda: enter(house, replace(key, count=None)))
    (info,) = house.papita.passkeys.list(ana)
    assert info.cloned_at is not None
    assert events(house, "passkey.cloned") == [{}, {}, {}]
    assert enter(house, key) == "ana"  # the owner is not locked out
    assert house.papita.passkeys.list(ana)[0].cloned_at == info.cloned_at


def test_nobody_marks_the_passkey_of_another_as_copied(house: House):
    ana = house.sign_in("ana")
    key = passkey(house, ana)
    enter(house, key)
    stranger = replace(key, count=-1, key=ec.generate_private_key(ec.SECP256R1()))
    refused(lambda: enter(house, stranger))
    assert house.papita.passkeys.list(ana)[0].cloned_at is None
    assert events(house, "passkey.cloned") == []


@pytest.mark.parametrize("column", ["disabled_at", "awaits_approval_since"])
def test_a_user_without_access_is_refused_in_the_same_words(house: House, column: str):
    key = passkey(house, house.sign_in("ana"))
    house.sql(f"UPDATE users SET {column} = created_at")
    refused(lambda: enter(house, key))


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "{}",
        "[]",
        "null",
        "\x00",
        '{"id": 1}',
        "x" * 20_000,
        '{"id":"å","rawId":"å"}',
        "[" * 15_000,
    ],
)
def test_nonsense_is_refused(shared_house: House, answer: str):
    passkeys = shared_house.papita.passkeys
    refused(lambda: passkeys.verify(passkeys.ask_anybody(), "sign-in", answer))
    ana = shared_house.sign_in(f"nonsense{shared_house.papita.users.count()}")
    refused(lambda: passkeys.register(ana, passkeys.ask_to_register(ana), answer, "x"))


def test_an_answer_with_a_part_that_is_not_what_it_should_be_is_refused(shared_house: House):
    key = passkey(shared_house, shared_house.sign_in("parts"))
    passkeys = shared_house.papita.passkeys
    for part in ("clientDataJSON", "authenticatorData", "signature", "userHandle"):
        for value in ("", "AAAA", 7, None, {}, "AA" * 500):
            question = passkeys.ask_anybody()
            answer = json.loads(key.get(question.options))
            answer["response"][part] = value
            refused(lambda q=question, a=answer: passkeys.verify(q, "sign-in", json.dumps(a)))
    assert enter(shared_house, key) == "parts"


def test_one_address_cannot_ask_for_ever(house: House):
    passkeys = house.papita.passkeys
    for _ in range(TRIES.most):
        with pytest.raises(FactorRefused):
            passkeys.verify(passkeys.ask_anybody(), "sign-in", "{}", address="192.0.2.1")
    with pytest.raises(TooManyAttempts):
        passkeys.verify(passkeys.ask_anybody(), "sign-in", "{}", address="192.0.2.1")
    key = passkey(house, house.sign_in("ana"))
    question = passkeys.ask_anybody()
    answer = key.get(question.options)
    assert passkeys.verify(question, "sign-in", answer, address="192.0.2.2").username == "ana"


# --- registering ---


@pytest.mark.parametrize(
    "wrong", [{"origin": "http://evil.example"}, {"rp_id": "evil.example"}, {"alg": -8}]
)
def test_a_passkey_for_another_site_is_not_kept(shared_house: House, wrong: dict[str, Any]):
    ana = shared_house.sign_in(f"site{shared_house.papita.users.count()}")
    passkeys = shared_house.papita.passkeys
    question = passkeys.ask_to_register(ana)
    refused(
        lambda: passkeys.register(
            ana, question, Authenticator().create(question.options, **wrong), "x"
        )
    )
    assert passkeys.list(ana) == []


def test_an_answer_to_another_question_is_not_kept(shared_house: House):
    passkeys = shared_house.papita.passkeys
    ana, ben = shared_house.sign_in("question-ana"), shared_house.sign_in("question-ben")
    question = passkeys.ask_to_register(ana)
    answer = Authenticator().create(question.options)
    refused(lambda: passkeys.register(ben, question, answer, "x"))
    refused(lambda: passkeys.register(ana, question, answer, "x"))  # it was answered
    refused(lambda: passkeys.register(ana, passkeys.ask_to_register(ana), answer, "x"))
    long = replace(Authenticator(), id=b"x" * 1024)
    question = passkeys.ask_to_register(ana)
    refused(lambda: passkeys.register(ana, question, long.create(question.options), "x"))
    assert passkeys.list(ana) == passkeys.list(ben) == []


@both_engines
def test_a_passkey_belongs_to_one_account(house: House):
    ana, ben = house.sign_in("ana"), house.sign_in("ben")
    key = passkey(house, ana)
    question = house.papita.passkeys.ask_to_register(ben)
    with pytest.raises(AlreadyExists):
        house.papita.passkeys.register(ben, question, key.create(question.options), "Mine now")
    assert house.papita.passkeys.list(ben) == []


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "a\u202eb"])
def test_a_name_is_one_line_and_a_bad_one_costs_no_question(shared_house: House, name: str):
    ana = shared_house.sign_in(f"name{shared_house.papita.users.count()}")
    passkeys = shared_house.papita.passkeys
    question = passkeys.ask_to_register(ana)
    answer = Authenticator().create(question.options)
    with pytest.raises(InvalidInput):
        passkeys.register(ana, question, answer, name)
    info = passkeys.register(ana, question, answer, "good")
    with pytest.raises(InvalidInput):
        passkeys.rename(ana, info.id, name)


@both_engines
def test_so_many_and_no_more(house: House):
    ana = house.sign_in("ana")
    for _ in range(MOST - 1):
        passkey(house, ana)
    passkeys = house.papita.passkeys
    answers = []
    for _ in range(2):
        question = passkeys.ask_to_register(ana)
        answers.append((question, Authenticator().create(question.options)))
    results = at_once([lambda q=q, a=a: passkeys.register(ana, q, a, "x") for q, a in answers])
    assert sum(isinstance(result, Conflict) for result in results) == 1
    assert len(passkeys.list(ana)) == MOST
    with pytest.raises(Conflict):
        passkeys.ask_to_register(ana)


@both_engines
def test_rename_and_remove(house: House):
    ana, ben = house.sign_in("ana"), house.sign_in("ben")
    key = passkey(house, ana)
    passkeys = house.papita.passkeys
    (info,) = passkeys.list(ana)
    for call in (
        lambda: passkeys.rename(ben, info.id, "mine"),
        lambda: passkeys.remove(ben, info.id),
        lambda: passkeys.remove(ana, "nothing"),
    ):
        with pytest.raises(NotFound):
            call()
    passkeys.rename(ana, info.id, " Work  laptop ")
    assert passkeys.list(ana)[0].name == "Work laptop"
    passkeys.remove(ana, info.id)
    refused(lambda: enter(house, key))
    assert events(house, "factor.removed") == [{"factor": "passkey"}]


def test_the_last_way_in_stays(house: House):
    ana = house.sign_in("ana")
    passkey(house, ana)
    app(house, ana)
    house.sql("UPDATE users SET password_hash = ''")
    (info,) = house.papita.passkeys.list(ana)
    with pytest.raises(LastFactor, match="no password"):
        house.papita.passkeys.remove(ana, info.id)
    passkey(house, ana)
    house.papita.passkeys.remove(ana, info.id)
    (other,) = house.papita.passkeys.list(ana)
    house.sql(
        "INSERT INTO oidc_identities (id, user_id, provider, issuer, subject, created_at)"
        f" SELECT '1', id, 'p', 'i', 's', created_at FROM users WHERE id = '{ana.user_id}'"
    )
    house.papita.passkeys.remove(ana, other.id)


def test_changes_need_proof_and_the_right(house: House):
    ana = house.sign_in("ana")
    passkey(house, ana)
    passkeys = house.papita.passkeys
    (info,) = passkeys.list(ana)
    question = passkeys.ask_to_register(ana)
    answer = Authenticator().create(question.options)
    later = replace(ana, proved_at=house.clock() - timedelta(minutes=6))
    script = replace(ana, scopes=frozenset({"credentials:read"}))
    for call in (
        lambda actor: passkeys.ask_to_register(actor),
        lambda actor: passkeys.rename(actor, info.id, "x"),
        lambda actor: passkeys.remove(actor, info.id),
    ):
        with pytest.raises(ReauthenticationRequired):
            call(later)
        with pytest.raises(Forbidden):
            call(script)
    with pytest.raises(ReauthenticationRequired):
        passkeys.register(later, question, answer, "x")


@pytest.mark.parametrize(
    ("address", "works"),
    [
        ("http://localhost:3000", True),
        ("https://papita.example", True),
        ("http://127.0.0.1:3000", False),
        ("https://[::1]", False),
        ("http://papita.example", False),
    ],
)
def test_where_browsers_offer_passkeys(house: House, address: str, works: bool):
    papita = house.opened(PAPITA_PUBLIC_URL=address)
    assert (papita.passkeys.unavailable is None) == works
    if not works:
        assert "PAPITA_PUBLIC_URL" in str(papita.passkeys.unavailable)
        with pytest.raises(Conflict):
            papita.passkeys.ask_to_register(house.sign_in("ana"))


def test_passkeys_sign_in_while_the_vault_is_sealed(house: House, caplog: pytest.LogCaptureFixture):
    ana = house.sign_in("ana")
    key = passkey(house, ana)
    (house.settings().keys_dir / "master.key").unlink()
    sealed = house.opened()
    question = sealed.passkeys.ask_anybody()
    assert sealed.passkeys.verify(question, "sign-in", key.get(question.options)).id == ana.user_id
    question = sealed.passkeys.ask_anybody()
    key.count = 0
    refused(lambda: sealed.passkeys.verify(question, "sign-in", key.get(question.options)))
    assert "passkey.cloned" in caplog.text
    with pytest.raises(VaultSealed):
        sealed.passkeys.remove(ana, sealed.passkeys.list(ana)[0].id)
    assert len(sealed.passkeys.list(ana)) == 1
