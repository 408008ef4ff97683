"""Codes of an authenticator app: each serves once, and the secret opens for its user alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pyotp
import pytest

from papita_core.actors import Actor
from papita_core.audit.service import AuditFilter
from papita_core.errors import (
    FactorRefused,
    Forbidden,
    LastFactor,
    NotFound,
    ReauthenticationRequired,
    SecretUnreadable,
    TooManyAttempts,
    VaultSealed,
)
from papita_core.users.factors import TOTP
from papita_core.users.totp import TRIES
from tests.papita_core.authenticator import app, passkey
from tests.papita_core.house import House, at_once, both_engines

OPERATOR = Actor.operator()


def events(house: House, action: str) -> list[dict[str, object]]:
    found = house.papita.audit.entries(OPERATOR, AuditFilter(action=action)).items
    return [entry.event.details for entry in found]


def refusal(house: House, actor: Actor, code: str) -> str:
    with pytest.raises(FactorRefused) as caught:
        house.papita.totp.verify(actor.user_id, code)
    return str(caught.value)


@both_engines
def test_an_app_counts_once_it_has_shown_a_code(house: House):
    ana = house.sign_in("ana")
    pending = house.papita.totp.begin(ana)
    totp = pyotp.TOTP(pending.secret)
    assert pyotp.parse_uri(pending.uri).provisioning_uri() == pending.uri
    assert pending.uri.startswith("otpauth://totp/Papita:ana?")
    assert len(pending.secret) == 32
    assert house.papita.totp.pending(ana) == pending
    assert pending.secret not in repr(pending)
    assert house.papita.factors.of(ana.user_id) == ()
    refusal(house, ana, totp.at(house.clock()))  # it does not count yet
    with pytest.raises(FactorRefused):
        house.papita.totp.confirm(ana, "000000" if totp.at(house.clock()) != "000000" else "1")
    house.papita.totp.confirm(ana, f" {totp.at(house.clock())[:3]} {totp.at(house.clock())[3:]} ")
    assert house.papita.factors.of(ana.user_id) == (TOTP,)
    assert events(house, "factor.added") == [{"factor": "totp"}]
    with pytest.raises(NotFound):
        house.papita.totp.pending(ana)
    # The code of the confirmation is used up as well.
    refusal(house, ana, totp.at(house.clock()))


@both_engines
def test_a_code_serves_once_and_a_used_one_is_told_from_a_wrong_one_by_nothing(house: House):
    ana = house.sign_in("ana")
    totp = app(house, ana)
    code = totp.at(house.clock())
    house.papita.totp.verify(ana.user_id, code)
    used = refusal(house, ana, code)
    wrong = refusal(house, ana, "not a code")
    nobody = refusal(house, house.sign_in("ben"), code)
    assert used == wrong == nobody
    assert events(house, "factor.refused") == [{"factor": "totp"}] * 2


@both_engines
def test_of_two_that_send_one_code_at_once_one_gets_in(house: House):
    ana = house.sign_in("ana")
    code = app(house, ana).at(house.clock())
    other = house.opened()
    results = at_once(
        [
            lambda papita=papita: papita.totp.verify(ana.user_id, code)
            for papita in (house.papita, other)
        ]
    )
    assert sorted(type(result).__name__ for result in results) == ["FactorRefused", "NoneType"]


@pytest.mark.parametrize(
    ("steps", "counts"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)]
)
def test_one_step_of_drift(house: House, steps: int, counts: bool):
    ana = house.sign_in("ana")
    totp = app(house, ana)
    code = totp.at(house.clock() + timedelta(seconds=30 * steps))
    if counts:
        house.papita.totp.verify(ana.user_id, code)
    else:
        refusal(house, ana, code)


def test_a_step_before_one_that_was_used_is_used_up_too(house: House):
    ana = house.sign_in("ana")
    totp = app(house, ana)
    now = house.clock()
    house.papita.totp.verify(ana.user_id, totp.at(now + timedelta(seconds=30)))
    refusal(house, ana, totp.at(now))


def test_a_clock_that_is_set_back_brings_no_code_back(house: House):
    ana = house.sign_in("ana")
    totp = app(house, ana)
    code = totp.at(house.clock())
    house.papita.totp.verify(ana.user_id, code)
    house.clock.forward(seconds=-30)
    refusal(house, ana, code)
    refusal(house, ana, totp.at(house.clock()))
    house.clock.forward(seconds=60)
    house.papita.totp.verify(ana.user_id, totp.at(house.clock()))


@both_engines
def test_tries_are_limited_for_each_user_and_time_out(house: House):
    ana, ben = house.sign_in("ana"), house.sign_in("ben")
    totp, others = app(house, ana), app(house, ben)
    for _ in range(TRIES.most):
        refusal(house, ana, "123")
    with pytest.raises(TooManyAttempts) as caught:
        house.papita.totp.verify(ana.user_id, totp.at(house.clock()))
    assert 0 < caught.value.retry_after <= TRIES.window.total_seconds() + 1
    house.papita.totp.verify(ben.user_id, others.at(house.clock()))
    house.clock.forward(seconds=TRIES.window.total_seconds() + 1)
    house.papita.totp.verify(ana.user_id, totp.at(house.clock()))


def test_a_right_code_is_no_try_that_counts(house: House):
    ana = house.sign_in("ana")
    totp = app(house, ana)
    for _ in range(TRIES.most + 2):
        house.papita.totp.verify(ana.user_id, totp.at(house.clock()))
        house.clock.forward(seconds=30)


@both_engines
def test_another_app_takes_the_place_of_the_first_and_not_before_its_code(house: House):
    ana = house.sign_in("ana")
    first = app(house, ana)
    second = pyotp.TOTP(house.papita.totp.begin(ana).secret)
    house.papita.totp.verify(ana.user_id, first.at(house.clock()))
    house.papita.totp.confirm(ana, second.at(house.clock()))
    house.clock.forward(seconds=60)
    refusal(house, ana, first.at(house.clock()))
    house.papita.totp.verify(ana.user_id, second.at(house.clock()))
    assert events(house, "factor.added")[0] == {"factor": "totp", "replaced": True}
    assert house.sql("SELECT count(*) FROM totp_devices") == [(1,)]


def test_what_waits_for_a_code_does_not_wait_for_ever(house: House):
    ana = house.sign_in("ana")
    totp = pyotp.TOTP(house.papita.totp.begin(ana).secret)
    house.clock.forward(minutes=31)
    late = replace(ana, proved_at=house.clock())
    with pytest.raises(NotFound):
        house.papita.totp.confirm(late, totp.at(house.clock()))


def test_changes_need_proof_and_the_right(house: House):
    ana = house.sign_in("ana")
    app(house, ana)
    later = replace(ana, proved_at=house.clock() - timedelta(minutes=6))
    script = replace(ana, scopes=frozenset({"credentials:read"}))
    for call in (
        house.papita.totp.begin,
        house.papita.totp.pending,
        lambda actor: house.papita.totp.confirm(actor, "1"),
        house.papita.totp.remove,
    ):
        with pytest.raises(ReauthenticationRequired):
            call(later)
        with pytest.raises(Forbidden):
            call(script)


@both_engines
def test_switching_off(house: House):
    ana = house.sign_in("ana")
    with pytest.raises(NotFound):
        house.papita.totp.remove(ana)
    totp = app(house, ana)
    house.papita.recovery.renew(ana)
    house.papita.totp.remove(ana)
    assert house.papita.factors.of(ana.user_id) == ()
    refusal(house, ana, totp.at(house.clock()))
    assert house.sql("SELECT count(*) FROM recovery_codes") == [(0,)]
    assert events(house, "factor.removed") == [{"factor": "totp"}]


def test_the_last_factor_stays_where_one_is_required(house: House):
    ana = house.sign_in("ana")
    app(house, ana)
    codes = house.papita.recovery.renew(ana)
    house.papita.policies.put(OPERATOR, "second-factor", "everybody")
    with pytest.raises(LastFactor):
        house.papita.totp.remove(ana)
    assert house.papita.recovery.use(ana.user_id, codes[0]) == 9  # nothing is gone
    passkey(house, ana)
    house.papita.totp.remove(ana)


@both_engines
def test_of_two_that_remove_the_last_two_at_once_one_may(house: House):
    ana = house.sign_in("ana")
    app(house, ana)
    passkey(house, ana)
    (info,) = house.papita.passkeys.list(ana)
    house.papita.policies.put(OPERATOR, "second-factor", "everybody")
    results = at_once(
        [
            lambda: house.papita.totp.remove(ana),
            lambda: house.papita.passkeys.remove(ana, info.id),
        ]
    )
    assert sorted(type(result).__name__ for result in results) == ["LastFactor", "NoneType"]
    assert len(house.papita.factors.of(ana.user_id)) == 1


def test_whoever_owes_a_factor_and_has_one_adds_none(house: House):
    """A session that began with the password alone would otherwise make itself a strong one."""
    ana = house.sign_in("ana")
    owes = replace(ana, restricted=True)
    pending = pyotp.TOTP(house.papita.totp.begin(owes).secret)  # the first one: that is the point
    house.papita.totp.confirm(owes, pending.at(house.clock()))
    for call in (
        house.papita.totp.begin,
        house.papita.totp.remove,
        house.papita.recovery.renew,
        house.papita.passkeys.ask_to_register,
    ):
        with pytest.raises(Forbidden):
            call(owes)


@pytest.mark.parametrize("column", ["disabled_at", "awaits_approval_since"])
def test_a_user_without_access_is_refused_in_the_same_words(house: House, column: str):
    ana = house.sign_in("ana")
    totp = app(house, ana)
    wrong = refusal(house, ana, "1")
    house.sql(f"UPDATE users SET {column} = created_at")
    assert refusal(house, ana, totp.at(house.clock())) == wrong


def test_while_the_vault_is_sealed_it_says_so_and_counts_nothing(house: House):
    ana = house.sign_in("ana")
    totp = app(house, ana)
    (house.settings().keys_dir / "master.key").unlink()
    sealed = house.opened()
    for _ in range(TRIES.most + 1):
        with pytest.raises(VaultSealed):
            sealed.totp.verify(ana.user_id, totp.at(house.clock()))
    with pytest.raises(VaultSealed):
        sealed.totp.begin(ana)
    house.papita.totp.verify(ana.user_id, totp.at(house.clock()))


@both_engines
def test_a_secret_in_the_row_of_another_user_does_not_open(house: House):
    ana, ben = house.sign_in("ana"), house.sign_in("ben")
    totp = app(house, ana)
    app(house, ben)
    ((blob, dek, kid),) = house.sql(
        f"SELECT blob, dek_wrapped, kek_kid FROM totp_devices WHERE user_id = '{ana.user_id}'"
    )
    house.sql(
        "UPDATE totp_devices SET blob = :blob, dek_wrapped = :dek, kek_kid = :kid"
        f" WHERE user_id = '{ben.user_id}'",
        blob=blob,
        dek=dek,
        kid=kid,
    )
    with pytest.raises(SecretUnreadable):
        house.papita.totp.verify(ben.user_id, totp.at(house.clock()))


@both_engines
def test_a_rotation_takes_the_secrets_along(house: House):
    ana = house.sign_in("ana")
    totp = app(house, ana)
    before = house.sql("SELECT kek_kid FROM totp_devices")
    done = house.papita.rotation.rotate_root(OPERATOR)
    assert before != house.sql("SELECT kek_kid FROM totp_devices") == [(done.new_kid,)]
    house.papita.totp.verify(ana.user_id, totp.at(house.clock()))
    house.opened()
