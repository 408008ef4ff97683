"""Without its master key Papita starts sealed: what is no secret goes on working."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from papita_core.app import Papita
from papita_core.errors import VaultSealed
from papita_core.grants.lending import LoanRequest
from papita_core.vault.service import NewCredential, ReplaceCredential
from tests.papita_core.house import KEY, PASSWORD, House, both_engines

OTHER = bytes(range(32)).hex()


def everything(house: House) -> list[list[object]]:
    tables = ("root_keys", "key_slots", "purpose_keys", "credentials", "credential_secrets")
    return [house.sql(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables]


def lose(house: House) -> dict[str, str]:
    (house.settings().keys_dir / "master.key").unlink()
    return {}


def mistake(house: House) -> dict[str, str]:
    return {"PAPITA_MASTER_KEY": OTHER}


both_ways = pytest.mark.parametrize("harm", [lose, mistake])


@both_engines
@both_ways
def test_metadata_is_there_and_secrets_are_not(
    house: House, harm: Callable[[House], dict[str, str]]
):
    actor = house.sign_in("ana")
    info = house.key(actor)
    token = house.project_token(actor)
    user_token = house.papita.projects.user_token(actor, "al-chat").token
    before = everything(house)

    sealed = house.opened(**harm(house))

    assert sealed.ready() == (False, "vault-sealed")
    assert sealed.sign_in.authenticate("ana", PASSWORD).username == "ana"
    ticket = sealed.sessions.start(actor.user_id).ticket
    assert sealed.sessions.redeem(ticket)[1].username == "ana"
    assert sealed.credentials.list(actor).items == [info]
    assert sealed.grants.allowed(actor, "al-chat")
    assert len(sealed.audit.entries(actor).items) > 0
    uses: list[Callable[[], object]] = [
        lambda: sealed.credentials.create(actor, NewCredential("openai", {"api_key": KEY})),
        lambda: sealed.credentials.replace(actor, info.id, ReplaceCredential(), etag=info.etag),
        lambda: sealed.credentials.delete(actor, info.id, etag=info.etag),
        lambda: sealed.credentials.test(actor, info.id),
        lambda: sealed.lender.resolve(LoanRequest(token, "ana", "openai", "al-chat")).result(30),
        lambda: sealed.projects.user_token(actor, "al-chat"),
        lambda: sealed.grants.exchange("al-chat", user_token, "openai"),
        sealed.audit.verify,
    ]
    for use in uses:
        with pytest.raises(VaultSealed):
            use()
    assert everything(house) == before


@both_ways
def test_the_log_and_the_status_name_the_key_that_is_wanted(
    house: House, harm: Callable[[House], dict[str, str]], caplog: pytest.LogCaptureFixture
):
    wanted = house.papita.ring.status.master_kid
    with caplog.at_level(logging.ERROR):
        sealed = house.opened(**harm(house))
    assert sealed.ring.status.wanted == (wanted,)
    assert str(wanted) in caplog.text


def test_no_key_is_made_over_data_whose_ring_is_gone(house: House):
    house.key(house.sign_in("ana"))
    lose(house)
    for table in ("key_slots", "root_keys"):
        house.sql(f"DELETE FROM {table}")
    sealed = house.opened()
    assert sealed.ring.sealed
    assert not (house.settings().keys_dir / "master.key").exists()


def test_the_right_key_put_back_opens_everything_again(house: House):
    actor = house.sign_in("ana")
    house.key(actor)
    path = house.settings().keys_dir / "master.key"
    text = path.read_text()
    path.unlink()
    assert house.opened().ring.sealed
    path.write_text(text)
    path.chmod(0o600)
    opened = house.opened()
    assert opened.ready() == (True, "ready")
    assert house.lend(house.project_token(actor), "ana").secret == {"api_key": KEY}


DAMAGE = {
    "the canary": "UPDATE root_keys SET canary = purpose_keys.blob FROM purpose_keys",
    "a slot": "UPDATE key_slots SET wrapped = root_keys.canary FROM root_keys",
    "the state of the root key": "UPDATE root_keys SET state = 'retired'",
    "a purpose key": "UPDATE purpose_keys SET blob = dek_wrapped WHERE purpose = 'audit'",
    "the purpose of a key": "UPDATE purpose_keys SET purpose = 'audit' WHERE state = 'active'",
    "a purpose key that is gone": "DELETE FROM purpose_keys WHERE purpose = 'audit'",
}


@pytest.mark.parametrize("statement", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_ring_stays_sealed_and_nothing_is_made_anew(house: House, statement: str):
    actor = house.sign_in("ana")
    house.key(actor)
    house.sql(statement)
    before = everything(house)
    sealed: Papita = house.opened()
    assert sealed.ready() == (False, "vault-sealed")
    assert len(sealed.credentials.list(actor).items) == 1
    assert everything(house) == before


def test_a_database_that_is_gone_is_another_reason(house: House):
    papita = house.opened(PAPITA_DATABASE_URL=f"sqlite:///{house.folder}/other/papita.db")
    assert papita.ready() == (True, "ready")
    papita.database.close()
    for path in (house.folder / "other").iterdir():
        path.unlink()
    (house.folder / "other" / "papita.db").mkdir()
    assert papita.ready() == (False, "database-unreachable")
