"""Lending: which key, to whom, for how long - and on the record before it leaves the vault."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest

from papita_core.audit.service import AuditFilter
from papita_core.errors import (
    ConsentRequired,
    CredentialExpired,
    CredentialNotFound,
    PapitaError,
    TooManyAttempts,
    Unauthenticated,
)
from papita_core.grants.lending import Loan, LoanRequest
from papita_core.vault.service import ReplaceCredential
from tests.papita_core.house import KEY, House, both_engines


@both_engines
def test_a_loan_is_the_key_and_where_it_may_go(house: House):
    ana = house.sign_in("ana")
    info = house.key(ana, base_url="https://ai.example/v1")
    loan = house.lend(house.project_token(ana), " ANA ")
    assert (loan.credential_id, loan.secret) == (info.id, {"api_key": KEY})
    assert (loan.base_url, loan.project_id) == ("https://ai.example/v1", None)
    assert timedelta(0) < loan.expires_at - house.clock() <= timedelta(minutes=5)
    assert house.papita.credentials.get(ana, info.id).last_used_at is not None


@both_engines
def test_the_projects_own_key_comes_first_then_the_newest(house: House):
    ana = house.sign_in("ana")
    token = house.project_token(ana)
    made = {}
    for name, project in (
        *(("old", None), ("own", "al-chat"), ("new", None), ("other's", "ai-resume")),
    ):
        made[name] = house.key(ana, f"sk-demo-{name}-0123456789", project_id=project)
        house.clock.forward(seconds=1)

    def lent() -> str:
        return house.lend(token, "ana").secret["api_key"].split("-")[2]

    assert lent() == "own"
    house.papita.credentials.delete(ana, made["own"].id, etag="*")
    assert lent() == "new"
    house.papita.credentials.replace(ana, made["old"].id, ReplaceCredential(), etag="*")
    assert lent() == "old"
    for name in ("old", "new"):
        house.papita.credentials.delete(ana, made[name].id, etag="*")
    with pytest.raises(CredentialNotFound):
        lent()  # the key for another project is none for this one


def test_an_expired_key_is_passed_over_and_named_if_there_is_no_other(house: House):
    ana = house.sign_in("ana")
    token = house.project_token(ana)
    house.key(ana, "sk-demo-short-lived-1", expires_at=house.clock() + timedelta(seconds=90))
    loan = house.lend(token, "ana")
    assert loan.expires_at - house.clock() <= timedelta(seconds=90)
    house.clock.forward(seconds=90)
    with pytest.raises(CredentialExpired):
        house.lend(token, "ana")
    house.key(ana)
    assert house.lend(token, "ana").secret == {"api_key": KEY}


@pytest.mark.parametrize(
    ("username", "kind", "project"),
    [
        ("ben", "openai", "al-chat"),
        ("", "openai", "al-chat"),
        ("ana", "aws", "al-chat"),
        ("ana", "openai", "ai-resume"),
        ("ana", "openai", ""),
    ],
)
def test_a_lease_reads_what_it_was_made_for_and_nothing_else(
    house: House, username: str, kind: str, project: str
):
    ana, ben = house.sign_in("ana"), house.sign_in("ben")
    house.key(ana)
    house.key(ben)
    token = house.project_token(ana)
    said = set()
    for name in (username, "nobody"):
        loan = house.papita.lender.resolve(LoanRequest(token, name, kind, project))
        with pytest.raises(CredentialNotFound) as caught:
            loan.result(10)
        said.add(str(caught.value))
    assert len(said) == 1


@both_engines
def test_a_lease_ends_after_five_minutes(house: House):
    ana = house.sign_in("ana")
    house.key(ana)
    token = house.project_token(ana)
    house.clock.forward(minutes=4, seconds=59)
    house.lend(token, "ana")
    house.clock.forward(seconds=1)
    with pytest.raises(Unauthenticated):
        house.lend(token, "ana")


@pytest.mark.parametrize("token", ["", "papita_lease_x", "\ud800", "x" * 9000])
def test_what_is_no_lease_reads_nothing(house: House, token: str):
    house.key(house.sign_in("ana"))
    with pytest.raises(Unauthenticated):
        house.lend(token, "ana")


def test_an_idle_sign_in_ends_its_leases(house: House):
    ana = house.sign_in("ana")
    house.key(ana)
    token = house.project_token(ana)
    house.sql("UPDATE sign_in_sessions SET last_seen_at = '2001-01-01 00:00:00.000000'")
    with pytest.raises(Unauthenticated):
        house.lend(token, "ana")


@both_engines
def test_each_read_is_on_the_record_also_of_those_that_share_a_commit(house: House):
    ana, ben = house.sign_in("ana"), house.sign_in("ben")
    house.key(ana)
    tokens = {"ana": house.project_token(ana), "ben": house.project_token(ben)}
    names = ["ana", "ben"] * 60
    futures = [
        house.papita.lender.resolve(
            LoanRequest(tokens[name], name, "openai", "al-chat", f"request {number}")
        )
        for number, name in enumerate(names)
    ]
    outcomes = [future.exception(10) or future.result() for future in futures]
    assert [type(outcome) for outcome in outcomes] == [Loan, CredentialNotFound] * 60
    auditor, wanted = house.sign_in("ada", "administrator"), AuditFilter(action="credential.read")
    recorded = house.papita.audit.entries(auditor, wanted, limit=500).items
    reads = [entry.event for entry in recorded]
    assert len(reads) == 120
    assert {event.request_id for event in reads} == {f"request {n}" for n in range(120)}
    for event in reads:
        own = event.owner_id == ana.user_id
        assert event.outcome == ("ok" if own else "credential-not-found")
        assert (event.subject_id is not None) == own
        assert event.actor_id == "al-chat"
    assert house.papita.audit.verify() == []


def test_refused_reads_are_on_the_owners_record(house: House):
    ana = house.sign_in("ana")
    token = house.project_token(ana)
    for change in (lambda: None, lambda: house.papita.grants.revoke(ana, "al-chat")):
        change()
        with pytest.raises(PapitaError):
            house.lend(token, "ana")
    reads = house.papita.audit.entries(ana, AuditFilter(action="credential.read")).items
    assert [entry.event.outcome for entry in reads] == [
        *(ConsentRequired.code, CredentialNotFound.code)
    ]


@both_engines
def test_nothing_is_lent_after_the_commit_of_a_revocation(house: House):
    ana = house.sign_in("ana")
    house.key(ana)
    for _ in range(3):
        token = house.project_token(ana)
        revoked_at: list[float] = []
        stop = threading.Event()
        late: list[float] = []
        lent: list[float] = []

        def borrow(
            token: str = token,
            stop: threading.Event = stop,
            revoked_at: list[float] = revoked_at,
            late: list[float] = late,
            lent: list[float] = lent,
        ) -> None:
            while not stop.is_set():
                asked = time.monotonic()
                try:
                    house.lend(token, "ana")
                except (ConsentRequired, Unauthenticated):
                    continue
                lent.append(asked)
                if revoked_at and asked > revoked_at[0]:
                    late.append(asked)

        borrowers = [threading.Thread(target=borrow) for _ in range(4)]
        for borrower in borrowers:
            borrower.start()
        time.sleep(0.1)
        house.papita.grants.revoke(ana, "al-chat")
        revoked_at.append(time.monotonic())
        time.sleep(0.1)
        stop.set()
        for borrower in borrowers:
            borrower.join()
        assert lent
        assert late == []


@both_engines
def test_consent_taken_back_during_an_exchange_leaves_no_lease_that_reads(house: House):
    ana = house.sign_in("ana")
    house.key(ana)
    user_token = house.papita.projects.user_token(ana, "al-chat").token
    for _ in range(5):
        house.papita.grants.allow(ana, "al-chat")
        tokens: list[str] = []

        def exchange(tokens: list[str] = tokens) -> None:
            try:
                found = house.papita.grants.exchange("al-chat", user_token, "openai")
            except ConsentRequired:
                return
            tokens.append(found.token)

        threads = [threading.Thread(target=exchange) for _ in range(4)]
        for thread in threads:
            thread.start()
        house.papita.grants.revoke(ana, "al-chat")
        for thread in threads:
            thread.join()
        for token in tokens:
            with pytest.raises((ConsentRequired, Unauthenticated)):
                house.lend(token, "ana")


def test_loans_are_limited_per_user_and_only_by_who_holds_a_lease(house: House):
    house.environment["PAPITA_RESOLVE_LIMIT"] = "3/hour"
    ana, ben = house.sign_in("ana"), house.sign_in("ben")
    for actor in (ana, ben):
        house.key(actor)
    mine, his = house.project_token(ana), house.project_token(ben)
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            house.lend("papita_lease_made_up", "ana")
        with pytest.raises(CredentialNotFound):
            house.lend(his, "ana")
    for _ in range(3):
        house.lend(mine, "ana")
    with pytest.raises(TooManyAttempts) as caught:
        house.lend(mine, "ana")
    assert 1 <= caught.value.retry_after <= 3601
    with pytest.raises(TooManyAttempts):
        house.lend(house.project_token(ana), "ana")  # a fresh lease is no fresh count
    house.lend(his, "ben")


def test_a_closed_lender_opens_again_when_it_is_asked(house: House):
    ana = house.sign_in("ana")
    house.key(ana)
    token = house.project_token(ana)
    house.lend(token, "ana")
    house.papita.lender.close()
    house.papita.lender.close()
    assert house.lend(token, "ana").secret == {"api_key": KEY}
