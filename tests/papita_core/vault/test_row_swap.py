"""Somebody who can write the database moves things between two rows, and gets nothing for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from papita_core.credential_types import CREDENTIAL_TYPES, OPENAI
from papita_core.errors import CredentialNotFound, SecretUnreadable
from papita_core.grants.lending import LoanRequest
from papita_core.projects import catalogue
from papita_core.vault.models import Credential, CredentialSecret
from papita_core.vault.service import NewCredential, ReplaceCredential
from tests.papita_core.house import House

# A column that is not listed here is bound to the secret: exchanging it has to fail.
FREE = {
    *("project_id", "label", "hint", "revision", "status", "checked_at", "expires_at"),
    *("created_at", "updated_at", "last_used_at", "last_used_by"),
    *("disabled_at", "blocked_at", "shared_with_all", "fingerprint"),
    *("budget_nano", "budget_period", "budget_project_id"),
    *("spent_nano", "spent_unpriced", "spent_since"),
}
COLUMNS = [
    *((Credential.__tablename__, column.name) for column in Credential.__table__.columns),
    *((CredentialSecret.__tablename__, name.name) for name in CredentialSecret.__table__.columns),
]
OTHER = replace(OPENAI, id="other", default_base_url="https://other.example/v1")


class TwoRows:
    """Ana's and Ben's credentials, which differ in every column that may be bound."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.ana, self.ben = house.sign_in("ana"), house.sign_in("ben")
        credentials = house.papita.credentials
        self.a = house.key(self.ana, "sk-demo-the-key-of-ana")
        b = credentials.create(self.ben, NewCredential("other", {"api_key": "sk-demo-first"}))
        new = ReplaceCredential(secret={"api_key": "sk-demo-the-key-of-ben"})
        self.b = credentials.replace(self.ben, b.id, new, etag=b.etag)
        self.tokens = [
            ("ana", "openai", house.project_token(self.ana)),
            ("ben", "other", self._project_token_of_ben()),
        ]

    def _project_token_of_ben(self) -> str:
        user_token = self.house.papita.projects.user_token(self.ben, "al-chat")
        self.house.papita.grants.allow(self.ben, "al-chat")
        return self.house.papita.grants.exchange("al-chat", user_token.token, "other").token

    def exchange(self, *columns: tuple[str, str]) -> None:
        path = Path(self.house.settings().database.removeprefix("sqlite:///"))
        with closing(sqlite3.connect(path, isolation_level=None)) as file:
            for table, column in columns:
                key = "id" if table == "credentials" else "credential_id"
                query = f"SELECT rowid, {column} FROM {table} WHERE {key} IN (?, ?)"
                (one, first), (two, second) = file.execute(query, (self.a.id, self.b.id)).fetchall()
                if first == second:  # nothing to exchange: put something foreign there
                    first = second = first if first is None else f"{first}"[:-1] + "~"
                change = f"UPDATE {table} SET {column} = ? WHERE rowid = ?"
                for value, row in (("-", one), (first, two), (second, one)):
                    file.execute(change, (value, row))

    def opened(self) -> Iterator[object]:
        """What comes of every way to the two secrets: the secret, or the error."""
        papita = self.house.papita
        for credential_id in (self.a.id, self.b.id):
            with papita.database.read() as session:
                row = session.get(Credential, credential_id)
                assert row is not None
                try:
                    yield papita.credentials.unsealed(session, row)
                except SecretUnreadable as error:
                    yield error
        for name, kind, token in self.tokens:
            request = LoanRequest(token, name, kind, "al-chat")
            try:
                yield papita.lender.resolve(request).result(30).secret
            except (SecretUnreadable, CredentialNotFound) as error:
                yield error


@pytest.fixture
def rows(house: House, monkeypatch: pytest.MonkeyPatch) -> TwoRows:
    monkeypatch.setitem(CREDENTIAL_TYPES, "other", OTHER)
    both = replace(catalogue.AL_CHAT, credential_types=("openai", "other"))
    for module in ("papita_core.grants.service.PROJECTS", "papita_core.vault.checks.PROJECTS"):
        monkeypatch.setattr(module, (both,))
    return TwoRows(house)


def test_untouched_rows_open(rows: TwoRows):
    a, b = {"api_key": "sk-demo-the-key-of-ana"}, {"api_key": "sk-demo-the-key-of-ben"}
    assert list(rows.opened()) == [a, b, a, b]


@pytest.mark.parametrize(("table", "column"), [c for c in COLUMNS if c[1] not in FREE])
def test_a_bound_column_of_another_row_opens_nothing(rows: TwoRows, table: str, column: str):
    rows.exchange((table, column))
    outcomes = list(rows.opened())
    assert [o for o in outcomes if isinstance(o, dict)] == []


@pytest.mark.parametrize(("table", "column"), [c for c in COLUMNS if c[1] in FREE])
def test_a_free_column_of_another_row_leaves_each_key_with_its_owner(
    rows: TwoRows, table: str, column: str
):
    rows.exchange((table, column))
    a, b = {"api_key": "sk-demo-the-key-of-ana"}, {"api_key": "sk-demo-the-key-of-ben"}
    assert list(rows.opened()) == [a, b, a, b]


def test_whole_secrets_of_another_row_open_nothing(rows: TwoRows):
    rows.exchange(*(("credential_secrets", name) for name in ("blob", "dek_wrapped", "kek_kid")))
    assert [o for o in rows.opened() if isinstance(o, dict)] == []


def test_a_row_that_cannot_be_read_is_shown_as_such_and_on_the_record(rows: TwoRows):
    rows.exchange(("credential_secrets", "blob"))
    list(rows.opened())
    assert rows.house.papita.credentials.get(rows.ana, rows.a.id).status == "unreadable"
    actions = [entry.event.action for entry in rows.house.papita.audit.entries(rows.ana).items]
    assert "credential.unreadable" in actions
