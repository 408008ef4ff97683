"""One's own account: changed behind a proof, and deleted with everything that hangs on it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import String, Text, select

from papita_core.actors import Actor
from papita_core.db import Base
from papita_core.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    PapitaError,
    ReauthenticationRequired,
    SignInRefused,
    TooManyAttempts,
    Unauthenticated,
)
from papita_core.grants.lending import LoanRequest
from papita_core.users.account import EMAIL_TAKEN, FINAL_AFTER, TAKEN_EMAILS
from papita_core.users.preferences import Appearance
from papita_core.users.service import NewUser
from tests.papita_core.house import CLIENT_SECRET, KEY, PASSWORD, House, at_once, both_engines

NEW = "meadows hum at dusk"
CLIENT = ("al-chat", CLIENT_SECRET)


def stale(actor: Actor) -> Actor:
    """The actor, some time after the last proof."""
    assert actor.proved_at is not None
    return replace(actor, proved_at=actor.proved_at - timedelta(minutes=6))


def actions(house: House, actor: Actor) -> list[tuple[str, str]]:
    entries = house.papita.account.events(actor, limit=100).items
    return [(entry.event.action, entry.event.outcome) for entry in entries]


# --- what is changed ---


def test_a_name_is_changed_and_noted(house: House):
    ana = house.sign_in("ana")
    house.papita.account.rename(ana, "  Ana   Belén ")
    assert house.papita.account.get(ana).display_name == "Ana Belén"
    house.papita.account.rename(ana, "Ana Belén")
    assert [found for found in actions(house, ana) if found[0] == "account.renamed"] == [
        ("account.renamed", "ok")
    ]
    for wrong in ("", " ", "x" * 201, "a\x00b"):
        with pytest.raises(InvalidInput):
            house.papita.account.rename(ana, wrong)


@both_engines
def test_an_email_is_nobody_elses_and_vouched_for_by_nobody(house: House):
    account = house.papita.account
    ana, ben = house.sign_in("ana"), house.sign_in("ben")
    account.change_email(ana, " Ana@Example.org ")
    found = account.get(ana)
    assert (found.email, found.email_verified) == ("Ana@Example.org", False)
    house.sql("UPDATE users SET email_verified_at = created_at WHERE id = :id", id=ana.user_id)
    with pytest.raises(InvalidInput) as refusal:
        account.change_email(ben, "aNA@example.ORG")
    assert refusal.value.errors == {"email": EMAIL_TAKEN}
    assert account.get(ben).email is None
    assert ("account.email-changed", "taken") in actions(house, ben)
    account.change_email(ana, "ana@example.net")
    assert not account.get(ana).email_verified
    account.change_email(ben, "ana@example.org")
    account.change_email(ana, "")
    assert account.get(ana).email is None


def test_nobody_finds_out_many_emails_of_others(house: House):
    account = house.papita.account
    ana, ben = house.sign_in("ana"), house.sign_in("ben")
    account.change_email(ana, "ana@example.org")
    for _ in range(TAKEN_EMAILS.most):
        account.change_email(ben, "ben@example.org")  # what is not taken does not count
    for _ in range(TAKEN_EMAILS.most):
        with pytest.raises(InvalidInput):
            account.change_email(ben, "ana@example.org")
    with pytest.raises(TooManyAttempts):
        account.change_email(ben, "ana@example.org")
    house.clock.forward(hours=1, seconds=1)
    account.change_email(replace(ben, proved_at=house.clock()), "free@example.org")


@both_engines
def test_a_new_password_ends_all_other_sessions_and_what_they_borrowed(house: House):
    papita = house.papita
    here = house.sign_in("ana")
    house.key(here)
    there = Actor.for_session(papita.sessions.redeem(papita.sessions.start(here.user_id).ticket)[1])
    kept, lost = house.project_token(here), house.project_token(there)
    handle = house.cookie("ana")["Cookie"].partition("=")[2]
    third = papita.sessions.by_handle(handle)
    assert third is not None
    papita.account.change_password(here, NEW)
    assert [session.id for session in papita.sessions.of_user(here.user_id)] == [here.session_id]
    assert papita.sessions.by_handle(handle) is None
    assert house.lend(kept, "ana").credential_type == "openai"
    with pytest.raises(Unauthenticated):
        house.lend(lost, "ana")
    with pytest.raises(SignInRefused):
        papita.sign_in.authenticate("ana", PASSWORD)
    assert papita.sign_in.authenticate("ana", NEW).id == here.user_id
    assert ("account.password-changed", "ok") in actions(house, here)


def test_after_a_new_password_the_old_cookie_of_this_session_opens_nothing(house: House):
    papita = house.papita
    user_id = house.user("ana")
    handle, session = papita.sessions.redeem(papita.sessions.start(user_id).ticket)
    papita.account.change_password(Actor.for_session(session), NEW)
    assert papita.sessions.by_handle(handle) is None
    fresh, _ = papita.sessions.redeem(papita.sessions.prove(session.id))
    found = papita.sessions.by_handle(fresh)
    assert found is not None
    assert found.id == session.id


def test_a_password_that_is_refused_changes_nothing(house: House):
    ana = house.sign_in("ana")
    house.papita.account.rename(ana, "Quillfeather")
    for wrong in ("short", "password123", "quillfeather 1"):
        with pytest.raises(InvalidInput) as refusal:
            house.papita.account.change_password(ana, wrong)
        assert set(refusal.value.errors) == {"password"}
        assert wrong not in str(refusal.value)
    assert house.papita.sign_in.authenticate("ana", PASSWORD).id == ana.user_id


def test_an_account_without_a_password_gets_one(house: House):
    ana = house.sign_in("ana")
    house.sql("UPDATE users SET password_hash = '' WHERE id = :id", id=ana.user_id)
    assert not house.papita.account.get(ana).has_password
    house.papita.account.change_password(ana, NEW)
    assert house.papita.account.get(ana).has_password
    assert house.papita.sign_in.authenticate("ana", NEW).id == ana.user_id


def test_what_a_stranger_at_an_open_tab_must_not_do_asks_for_a_proof(house: House):
    account = house.papita.account
    ana = stale(house.sign_in("ana"))
    for change in (
        lambda: account.change_email(ana, "eve@example.org"),
        lambda: account.change_password(ana, NEW),
        lambda: account.delete(ana, ana.user_id, confirmation="ana"),
    ):
        with pytest.raises(ReauthenticationRequired):
            change()
    account.rename(ana, "Ana")


def test_who_owes_a_second_factor_changes_nothing(house: House):
    account = house.papita.account
    ana = replace(house.sign_in("ana"), restricted=True)
    calls: list[Any] = [
        lambda: account.get(ana),
        lambda: account.rename(ana, "Ana"),
        lambda: account.change_email(ana, "a@example.org"),
        lambda: account.change_password(ana, NEW),
        lambda: account.events(ana),
        lambda: account.delete(ana, ana.user_id, confirmation="ana"),
    ]
    for call in calls:
        with pytest.raises(Forbidden):
            call()


def test_events_are_ones_own_without_the_loans_and_in_pages(house: House):
    ana, ben = house.sign_in("ana"), house.sign_in("ben")
    house.key(ana)
    house.lend(house.project_token(ana), "ana")
    for number in range(5):
        house.papita.account.rename(ana, f"Ana {number}")
    house.papita.account.rename(ben, "Ben B.")
    first = house.papita.account.events(ana, limit=4)
    assert first.next_cursor is not None
    rest = house.papita.account.events(ana, cursor=first.next_cursor, limit=100)
    found = [entry.event for entry in (*first.items, *rest.items)]
    assert {event.owner_id for event in found} == {ana.user_id}
    assert [event.action for event in found[:5]] == ["account.renamed"] * 5
    assert {event.action for event in found[5:]} == {
        "session.started",
        "grant.allowed",
        "credential.created",
        "user.created",
    }
    ada = house.sign_in("ada", "administrator")
    mine = house.papita.account.events(ada, limit=100).items
    assert {entry.event.owner_id for entry in mine} == {ada.user_id}


# --- how the pages look ---


@both_engines
def test_an_appearance_is_of_every_session_at_once(house: House):
    papita = house.papita
    ana = house.sign_in("ana")
    papita.preferences.change_appearance(ana, zone="Pacific/Auckland", theme="dark")
    wanted = papita.preferences.change_appearance(ana, colour="teal")
    assert wanted == Appearance("Pacific/Auckland", "dark", "teal")
    other = papita.sessions.start(ana.user_id).session
    assert other.appearance == wanted
    assert [one.appearance for one in papita.sessions.of_user(ana.user_id)] == [wanted, wanted]
    assert papita.preferences.appearance(ana) == wanted
    ada = house.sign_in("ada", "administrator")
    ids = [ana.user_id, ada.user_id]
    assert papita.preferences.colours(ada, ids) == {ana.user_id: "teal"}
    with pytest.raises(Forbidden):
        papita.preferences.colours(ana, ids)
    assert papita.preferences.change_appearance(ana, zone="").zone == ""


@pytest.mark.parametrize(
    "wrong", [{"zone": "Mars/Olympus"}, {"zone": "../../etc"}, {"theme": "pink"}, {"colour": "x"}]
)
def test_an_appearance_that_is_none_is_refused(house: House, wrong: dict[str, str]):
    ana = house.sign_in("ana")
    with pytest.raises(InvalidInput) as refusal:
        house.papita.preferences.change_appearance(ana, **wrong)
    assert set(refusal.value.errors) == set(wrong)
    assert Appearance.read('{"zone": "Mars/Olympus", "theme": "pink", "more": 1}') == Appearance()


# --- the end ---


def everything_of(house: House, *values: str) -> dict[str, int]:
    """How many rows of which tables hold one of these values in a column of text."""
    found = {}
    with house.papita.database.read() as session:
        for table in Base.metadata.tables.values():
            columns = [it for it in table.c if isinstance(it.type, String | Text)]
            count = sum(
                any(value in str(cell) for cell in row for value in values)
                for row in session.execute(select(*columns))
            )
            if count:
                found[table.name] = count
    return found


@both_engines
def test_a_deleted_account_leaves_ids_in_the_log_and_nothing_else(house: House):
    papita = house.papita
    new = NewUser("quillfeather", PASSWORD, "Quill Feather", "quill@feather.example")
    ana = papita.users.create(Actor.operator(), new)
    session = papita.sessions.redeem(papita.sessions.start(ana.id).ticket)[1]
    actor = Actor.for_session(session)
    papita.preferences.change_appearance(actor, theme="dark")
    house.key(actor)
    loan = house.project_token(actor)
    token = house.access_token("quillfeather")
    assert house.lend(loan, "quillfeather").credential_type == "openai"
    papita.account.delete(actor, ana.id, confirmation=" QuillFeather ")
    assert papita.users.by_id(ana.id) is None
    assert papita.sessions.by_id(session.id) is None
    assert papita.access_tokens.actor(token) is None
    with pytest.raises(PapitaError):
        papita.lender.resolve(LoanRequest(loan, "quillfeather", "openai", "al-chat")).result(30)
    assert set(everything_of(house, ana.id)) == {"audit_log", "erasures"}
    names = everything_of(house, "quillfeather", "Quill Feather", "quill@feather.example")
    assert names == {"erasures": 1}
    house.clock.forward(seconds=FINAL_AFTER.total_seconds() + 1)
    papita.account.erased("al-chat", ana.id)
    assert set(everything_of(house, ana.id)) == {"audit_log"}
    assert papita.audit.verify() == []


def test_the_sealed_keys_of_a_deleted_account_are_in_no_file(house: House):
    ana = house.sign_in("ana")
    house.key(ana)
    ((blob, wrapped),) = house.sql("SELECT blob, dek_wrapped FROM credential_secrets")
    files = list((house.folder / "data").glob("papita.db*"))
    assert any(bytes(wrapped) in file.read_bytes() for file in files)
    house.papita.account.delete(ana, ana.user_id, confirmation="ana")
    for file in files:
        content = file.read_bytes() if file.exists() else b""
        assert bytes(wrapped) not in content
        assert bytes(blob) not in content
    assert KEY not in str(everything_of(house, ana.user_id))


def test_deleting_oneself_takes_the_name_and_deleting_others_takes_rights(house: House):
    account = house.papita.account
    ana, ben = house.sign_in("ana"), house.sign_in("ben")
    for typed in (None, "", "ben", "an"):
        with pytest.raises(InvalidInput):
            account.delete(ana, ana.user_id, confirmation=typed)
    with pytest.raises(Forbidden):
        account.delete(ben, ana.user_id, confirmation="ana")
    ada = house.sign_in("ada", "administrator")
    with pytest.raises(ReauthenticationRequired):
        account.delete(stale(ada), ana.user_id)
    account.delete(ada, ana.user_id)
    with pytest.raises(NotFound):
        account.delete(ada, ana.user_id)
    (entry,) = [
        entry
        for entry in house.papita.audit.entries(ada).items
        if entry.event.action == "user.deleted"
    ]
    assert (entry.event.actor_id, entry.event.owner_id) == (ada.user_id, ana.user_id)
    with pytest.raises(Unauthenticated):
        account.get(ana)


@both_engines
def test_the_last_administrator_cannot_go(house: House):
    account = house.papita.account
    ada, bea = house.sign_in("ada", "administrator"), house.sign_in("bea", "administrator")
    done = at_once(
        [
            lambda: account.delete(ada, ada.user_id, confirmation="ada"),
            lambda: account.delete(bea, bea.user_id, confirmation="bea"),
        ]
    )
    assert {type(one) for one in done} == {type(None), Conflict}
    left = house.papita.users.list(Actor.operator())
    assert [user.role for user in left] == ["administrator"]


# --- what projects still have to delete ---


def test_a_project_hears_whom_to_delete_until_it_says_that_it_has(house: House):
    ana = house.sign_in("ana")
    house.papita.account.delete(ana, ana.user_id, confirmation="ana")
    api = house.api()
    path = f"/api/erasures/{ana.user_id}"
    (due,) = api.get("/api/erasures", auth=CLIENT).json()["erasures"]
    assert (due["userId"], due["username"], due["final"]) == (ana.user_id, "ana", False)
    early = api.delete(path, auth=CLIENT)
    assert (early.status_code, early.json()["code"]) == (409, "conflict")
    house.clock.forward(seconds=FINAL_AFTER.total_seconds() + 1)
    (due,) = api.get("/api/erasures", auth=CLIENT).json()["erasures"]
    assert due["final"]
    for wrong in (None, ("al-chat", "guess"), ("ai-resume", "")):
        assert api.get("/api/erasures", auth=wrong).status_code == 401
        assert api.delete(path, auth=wrong).status_code == 401
    assert api.delete(path, auth=CLIENT).status_code == 204
    assert api.delete(path, auth=CLIENT).status_code == 404
    assert api.get("/api/erasures", auth=CLIENT).json() == {"erasures": []}
