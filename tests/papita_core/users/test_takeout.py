"""All that there is about a user, and not one secret."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from papita_core.actors import Actor
from papita_core.db import Base, table_of
from papita_core.errors import ReauthenticationRequired
from papita_core.users.models import UserRow
from papita_core.users.takeout import LEFT_OUT, SECTIONS
from tests.papita_core.house import KEY, PASSWORD, House, both_engines

NEVER = ("hash", "blob", "dek", "kek", "fingerprint", "secret", "public_key", "digest")


def document(house: House, actor: Actor) -> dict[str, Any]:
    found: dict[str, Any] = json.loads("".join(house.papita.takeout.of(actor)))
    return found


def test_every_table_of_users_is_handed_out_or_left_out_on_purpose():
    known = {table_of(model).name for _, model, _, _ in SECTIONS}
    known |= {table_of(model).name for model in LEFT_OUT}
    theirs = {
        table.name
        for table in Base.metadata.tables.values()
        if any(key.column.table is table_of(UserRow) for key in table.foreign_keys)
    }
    assert theirs == known


def test_no_column_that_holds_a_secret_is_named():
    for _, model, owner, columns in SECTIONS:
        table = table_of(model)
        assert owner in table.c
        for name in columns.split():
            assert name in table.c
            assert not any(part in name for part in NEVER), name


@both_engines
def test_the_document_has_all_of_ones_own_and_nothing_of_others(house: House):
    papita = house.papita
    ana, ben = house.sign_in("ana"), house.sign_in("ben")
    house.key(ana, label="My own key")
    house.key(ben, label="Not yours")
    papita.preferences.change_appearance(ana, theme="dark")
    loan = house.project_token(ana)
    token = house.access_token("ana")
    house.lend(loan, "ana")
    cookie = house.cookie("ana")["Cookie"].partition("=")[2]
    papita.account.rename(ana, "Ana Belén")
    found = document(house, ana)
    assert (found["account"]["username"], found["account"]["displayName"]) == ("ana", "Ana Belén")
    assert found["account"]["hasPassword"] is True
    assert found["preferences"][0]["value"]["theme"] == "dark"
    assert [one["label"] for one in found["credentials"]] == ["My own key"]
    assert len(found["sessions"]) == 2
    assert [one["name"] for one in found["accessTokens"]] == ["test"]
    assert {one["projectId"] for one in found["grants"]} == {"al-chat"}
    assert found["leases"]
    actions = [entry["action"] for entry in found["auditEntries"]]
    assert {"user.created", "credential.read", "account.renamed"} <= set(actions)
    assert {entry["ownerId"] for entry in found["auditEntries"]} == {ana.user_id}
    whole = json.dumps(found)
    hashes = house.sql("SELECT password_hash FROM users")[0][0]
    for secret in (KEY, PASSWORD, token, loan, cookie, hashes, ben.user_id, "Not yours"):
        assert secret not in whole
    with papita.database.read() as session:
        rows = session.execute(text("SELECT handle_hash, ticket_hash FROM sign_in_sessions")).all()
    for value in (value for row in rows for value in row if value):
        assert value not in whole


def test_it_is_handed_out_behind_a_proof(house: House):
    ana = house.sign_in("ana")
    assert ana.proved_at is not None
    with pytest.raises(ReauthenticationRequired):
        house.papita.takeout.of(replace(ana, proved_at=ana.proved_at - timedelta(minutes=6)))
