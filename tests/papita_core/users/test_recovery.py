"""Recovery codes: ten, each once, kept as hashes, and worth nothing without a factor."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import pytest

from papita_core.actors import Actor
from papita_core.audit.service import AuditFilter
from papita_core.errors import (
    Conflict,
    FactorRefused,
    Forbidden,
    ReauthenticationRequired,
    TooManyAttempts,
    VaultSealed,
)
from papita_core.users.factors import RECOVERY, TOTP
from papita_core.users.recovery import HOW_MANY, TRIES
from tests.papita_core.authenticator import app, passkey
from tests.papita_core.house import House, at_once, both_engines

OPERATOR = Actor.operator()


def with_codes(house: House, name: str = "ana") -> tuple[Actor, tuple[str, ...]]:
    actor = house.sign_in(name)
    app(house, actor)
    return actor, house.papita.recovery.renew(actor)


def events(house: House, action: str) -> list[dict[str, object]]:
    found = house.papita.audit.entries(OPERATOR, AuditFilter(action=action)).items
    return [entry.event.details for entry in found]


@both_engines
def test_a_code_serves_once(house: House):
    ana, codes = with_codes(house)
    assert len(set(codes)) == HOW_MANY
    assert all(
        re.fullmatch(r"([0-9A-HJKMNP-TV-Z]{4}-){3}[0-9A-HJKMNP-TV-Z]{4}|[0-9A-Z-]{19}", code)
        for code in codes
    )
    assert house.papita.factors.of(ana.user_id) == (TOTP, RECOVERY)
    overview = house.papita.factors.overview(ana)
    assert (overview.codes_left, overview.codes_made) == (10, 10)
    assert house.papita.recovery.use(ana.user_id, codes[3], address="192.0.2.7") == 9
    said = set()
    for code in (codes[3], "ABCD-EFGH-JKMN-PQRS", ""):
        with pytest.raises(FactorRefused) as caught:
            house.papita.recovery.use(ana.user_id, code)
        said.add(str(caught.value))
    assert len(said) == 1
    overview = house.papita.factors.overview(ana)
    assert (overview.codes_left, overview.codes_made) == (9, 10)
    assert events(house, "recovery.used") == [{"left": 9, "address": "192.0.2.7"}]
    assert len(events(house, "factor.refused")) == 3


def test_it_is_typed_as_it_is_read(house: House):
    ana, codes = with_codes(house)
    plain = codes[0].replace("-", "").replace("0", "o").replace("1", "l").lower()
    assert house.papita.recovery.use(ana.user_id, f" {plain} ") == 9


@both_engines
def test_of_eight_that_send_one_code_at_once_one_gets_in(house: House):
    ana, codes = with_codes(house)
    results = at_once([lambda: house.papita.recovery.use(ana.user_id, codes[0])] * 5)
    assert sorted(type(result).__name__ for result in results) == ["FactorRefused"] * 4 + ["int"]


@both_engines
def test_new_codes_put_the_earlier_ones_out_of_force(house: House):
    ana, codes = with_codes(house)
    again = house.papita.recovery.renew(ana)
    with pytest.raises(FactorRefused):
        house.papita.recovery.use(ana.user_id, codes[0])
    assert house.papita.recovery.use(ana.user_id, again[0]) == 9
    assert events(house, "recovery.renewed") == [{}, {}]


def test_a_code_of_somebody_else_opens_nothing(house: House):
    _, codes = with_codes(house)
    ben, _ = with_codes(house, "ben")
    with pytest.raises(FactorRefused):
        house.papita.recovery.use(ben.user_id, codes[0])
    # Not even in the other's row: the hash is bound to its user.
    house.sql("DELETE FROM recovery_codes WHERE user_id = :ben", ben=ben.user_id)
    house.sql("UPDATE recovery_codes SET user_id = :ben", ben=ben.user_id)
    with pytest.raises(FactorRefused):
        house.papita.recovery.use(ben.user_id, codes[0])


def test_without_a_factor_there_are_none(house: House):
    ana = house.sign_in("ana")
    with pytest.raises(Conflict):
        house.papita.recovery.renew(ana)
    passkey(house, ana)
    codes = house.papita.recovery.renew(ana)
    house.sql("DELETE FROM passkeys")
    assert house.papita.factors.of(ana.user_id) == ()
    with pytest.raises(FactorRefused):
        house.papita.recovery.use(ana.user_id, codes[0])


def test_tries_are_limited_and_time_out(house: House):
    ana, codes = with_codes(house)
    for _ in range(TRIES.most):
        with pytest.raises(FactorRefused):
            house.papita.recovery.use(ana.user_id, "guess")
    with pytest.raises(TooManyAttempts):
        house.papita.recovery.use(ana.user_id, codes[0])
    house.clock.forward(seconds=TRIES.window.total_seconds() + 1)
    house.papita.recovery.use(ana.user_id, codes[0])


def test_new_codes_need_proof_and_the_right(house: House):
    ana, _ = with_codes(house)
    with pytest.raises(ReauthenticationRequired):
        house.papita.recovery.renew(replace(ana, proved_at=house.clock() - timedelta(minutes=6)))
    with pytest.raises(Forbidden):
        house.papita.recovery.renew(replace(ana, scopes=frozenset({"credentials:read"})))


@pytest.mark.parametrize("column", ["disabled_at", "awaits_approval_since"])
def test_a_user_without_access_is_refused(house: House, column: str):
    ana, codes = with_codes(house)
    house.sql(f"UPDATE users SET {column} = created_at")
    with pytest.raises(FactorRefused):
        house.papita.recovery.use(ana.user_id, codes[0])


def test_codes_work_while_the_vault_is_sealed_and_the_log_says_so(
    house: House, caplog: pytest.LogCaptureFixture
):
    ana, codes = with_codes(house)
    (house.settings().keys_dir / "master.key").unlink()
    sealed = house.opened()
    assert sealed.recovery.use(ana.user_id, codes[0]) == 9
    assert "recovery.used" in caplog.text
    assert codes[0] not in caplog.text
    with pytest.raises(FactorRefused):
        sealed.recovery.use(ana.user_id, codes[0])
    with pytest.raises(VaultSealed):  # no change without a row on the record
        sealed.recovery.renew(ana)
    assert sealed.recovery.use(ana.user_id, codes[1]) == 8
