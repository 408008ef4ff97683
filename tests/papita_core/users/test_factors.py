"""What a user has in sum, and help for somebody who lost everything."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from papita_core.actors import Actor
from papita_core.audit.service import AuditFilter
from papita_core.errors import FactorRefused, Forbidden, NotFound, ReauthenticationRequired
from tests.papita_core.authenticator import app, passkey
from tests.papita_core.house import House, both_engines

OPERATOR = Actor.operator()


@both_engines
def test_an_administrator_takes_everything_away(house: House):
    ada, ana = house.sign_in("ada", "administrator"), house.sign_in("ana")
    ben = house.sign_in("ben")
    totp = app(house, ana)
    passkey(house, ana)
    passkey(house, ben)
    codes = house.papita.recovery.renew(ana)
    house.papita.factors.reset(replace(ada, proved_at=house.clock()), " Ana ")
    assert house.papita.factors.of(ana.user_id) == ()
    assert house.papita.factors.of(ben.user_id) == ("passkey",)
    assert ana.session_id is not None
    assert house.papita.sessions.by_id(ana.session_id) is None
    assert ben.session_id is not None
    assert house.papita.sessions.by_id(ben.session_id) is not None
    for use, code in (
        (house.papita.totp.verify, totp.at(house.clock())),
        (house.papita.recovery.use, codes[0]),
    ):
        with pytest.raises(FactorRefused):
            use(ana.user_id, code)
    (entry,) = house.papita.audit.entries(OPERATOR, AuditFilter(action="factor.reset")).items
    assert entry.event.actor_id == ada.user_id
    assert entry.event.owner_id == ana.user_id
    assert entry.event.details == {"factors": ["totp", "passkey", "recovery"]}


def test_nobody_else_does_and_not_without_proof(house: House):
    ada, ana = house.sign_in("ada", "administrator"), house.sign_in("ana")
    with pytest.raises(Forbidden):
        house.papita.factors.reset(ana, "ada")
    with pytest.raises(ReauthenticationRequired):
        house.papita.factors.reset(
            replace(ada, proved_at=house.clock() - timedelta(minutes=6)), "ana"
        )
    with pytest.raises(NotFound):
        house.papita.factors.reset(OPERATOR, "nobody")


def test_overview(house: House):
    ana = house.sign_in("ana")
    nothing = house.papita.factors.overview(ana)
    assert not nothing.on
    assert not nothing.required
    app(house, ana)
    passkey(house, ana)
    house.papita.policies.put(OPERATOR, "second-factor", "everybody")
    some = house.papita.factors.overview(ana)
    assert some.on
    assert some.required
    assert some.passkeys == 1
    assert some.totp_since is not None
    assert (some.codes_left, some.codes_made) == (0, 0)
