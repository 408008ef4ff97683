"""Lending: which key, to whom, for how long - and on the record before it leaves the vault."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from papita_core.actors import Actor
from papita_core.audit.service import AuditFilter
from papita_core.db import Database
from papita_core.errors import (
    ConsentRequired,
    CredentialExpired,
    CredentialNotFound,
    InvalidInput,
    PapitaError,
    SecretUnreadable,
    TooManyAttempts,
    Unauthenticated,
)
from papita_core.grants.lending import USED_EVERY, Lender, Loan, LoanRequest
from papita_core.vault.keyring import KeyRing, SealedParts
from papita_core.vault.service import NewCredential, ReplaceCredential
from tests.papita_core.house import KEY, House, at_once, both_engines


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
            loan.result(30)
        said.add(str(caught.value))
    assert len(said) == 1


@both_engines
def test_a_lease_ends_after_five_minutes(house: House):
    ana = house.sign_in("ana")
    house.key(ana)
    token = house.project_token(ana)
    house.clock.forward(minutes=4, seconds=45)
    house.lend(token, "ana")
    house.clock.forward(seconds=15)
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


@both_engines
def test_a_loan_names_the_type_that_it_is_and_the_run_it_is_for(house: House):
    ana = house.sign_in("ana")
    new = NewCredential("groq", {"api_key": "gsk_0123456789abcdef"})
    info = house.papita.credentials.create(ana, new)
    token = house.project_token(ana)
    request = LoanRequest(token, "ana", "openai", "al-chat", "a request", "run-1")
    loan = house.papita.lender.resolve(request).result(30)
    assert (loan.credential_id, loan.credential_type) == (info.id, "groq")
    (read,) = house.papita.audit.entries(ana, AuditFilter(action="credential.read")).items
    assert (read.event.run_id, read.event.request_id) == ("run-1", "a request")
    assert read.event.details == {"version": 1}


@pytest.mark.parametrize("run_id", ["", "x" * 65, "a\nb", "rün", "\x00"])
def test_a_run_has_a_name_that_can_stand_in_a_record(run_id: str):
    with pytest.raises(InvalidInput) as caught:
        LoanRequest("papita_lease_x", "ana", "openai", "al-chat", run_id=run_id)
    assert set(caught.value.errors) == {"runId"}
    assert not run_id or run_id not in str(caught.value)


@both_engines
def test_a_shared_key_is_lent_and_both_can_see_it(house: House):
    ada, ana = house.sign_in("ada", "administrator"), house.sign_in("ana")
    info = house.key(ada, "sk-demo-the-key-of-the-team")
    token = house.project_token(ana)
    with pytest.raises(CredentialNotFound):
        house.lend(token, "ana")
    credentials = house.papita.credentials
    for everybody, names in ((False, ["ana"]), (True, [])):
        credentials.share(ada, info.id, everybody=everybody, usernames=names, etag="*")
        assert house.lend(token, "ana").secret == {"api_key": "sk-demo-the-key-of-the-team"}
    (first, second) = credentials.uses(ada, info.id).items
    assert (first.username, first.project_id, first.outcome) == ("ana", "al-chat", "ok")
    assert (second.username, second.project_id, second.outcome) == ("ana", "al-chat", "ok")
    own = house.papita.audit.entries(ana, AuditFilter(action="credential.read")).items
    assert own[0].event.details == {"version": 1, "owner": ada.user_id}
    assert credentials.get(ada, info.id).last_used_by == "al-chat"
    credentials.share(ada, info.id, everybody=False, usernames=[], etag="*")
    with pytest.raises(CredentialNotFound):
        house.lend(token, "ana")


@both_engines
def test_the_time_of_use_is_written_at_most_every_few_seconds(house: House):
    ana = house.sign_in("ana")
    info = house.key(ana)
    token = house.project_token(ana)

    def used() -> object:
        house.lend(token, "ana")
        return house.papita.credentials.get(ana, info.id).last_used_at

    first = used()
    assert used() == first
    house.clock.forward(seconds=USED_EVERY.total_seconds())
    assert used() != first


@both_engines
def test_many_may_borrow_one_shared_key_at_once(house: House):
    ada = house.sign_in("ada", "administrator")
    keys = [house.key(ada), house.key(ada, project_id="al-chat")]
    for info in keys:
        house.papita.credentials.share(ada, info.id, everybody=True, usernames=[], etag="*")
    people = {f"user{number}": house.sign_in(f"user{number}") for number in range(12)}
    tokens = {name: house.project_token(actor) for name, actor in people.items()}
    for _ in range(5):
        house.clock.forward(seconds=USED_EVERY.total_seconds())  # each would write the row
        loans = at_once([lambda name=name: house.lend(tokens[name], name) for name in people])
        assert {loan.credential_id for loan in loans if isinstance(loan, Loan)} == {keys[1].id}
        assert all(isinstance(loan, Loan) for loan in loans)
    assert house.papita.audit.verify() == []


@both_engines
def test_a_loan_waits_for_whoever_is_revoking_its_lease(house: House):
    ana = house.sign_in("ana")
    house.key(ana)
    token = house.project_token(ana)
    with ThreadPoolExecutor(1) as pool:
        with house.papita.database.write() as session:
            session.execute(text("UPDATE leases SET revoked_at = created_at"))
            loan = pool.submit(house.lend, token, "ana")
            assert not wait([loan], timeout=0.3).done
        with pytest.raises(Unauthenticated):
            loan.result(30)


@both_engines
@pytest.mark.parametrize("column", ["blob", "dek_wrapped"])
def test_a_secret_that_cannot_be_read_is_marked_once_and_on_the_record(house: House, column: str):
    ana = house.sign_in("ana")
    info = house.key(ana)
    token = house.project_token(ana)
    house.sql(f"UPDATE credential_secrets SET {column} = :value", value=b"x" * 80)
    for _ in range(2):
        with pytest.raises(SecretUnreadable):
            house.lend(token, "ana")
    assert house.papita.credentials.get(ana, info.id).status == "unreadable"
    wanted = AuditFilter(action="credential.unreadable")
    assert len(house.papita.audit.entries(ana, wanted).items) == 1
    house.papita.credentials.replace(
        ana, info.id, ReplaceCredential(secret={"api_key": KEY}), etag="*"
    )
    assert house.lend(token, "ana").secret == {"api_key": KEY}


class StaleRing:
    """A ring before whose first opening somebody wraps the data key anew."""

    def __init__(self, ring: KeyRing, rewrap: Callable[[], object]) -> None:
        self._ring = ring
        self._rewrap: Callable[[], object] | None = rewrap

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ring, name)

    def open(self, kind: str, parts: SealedParts, context: Sequence[bytes]) -> Any:
        if self._rewrap is not None:
            rewrap, self._rewrap = self._rewrap, None
            rewrap()
            raise SecretUnreadable  # as if the root key of what was read were gone
        return self._ring.open(kind, parts, context)


@both_engines
def test_a_data_key_that_was_wrapped_anew_meanwhile_is_read_again(house: House):
    ana = house.sign_in("ana")
    info = house.key(ana)
    token = house.project_token(ana)
    papita = house.papita
    ring: Any = StaleRing(papita.ring, lambda: papita.rotation.rotate_root(Actor.operator()))
    lender = Lender(papita.database, ring, papita.audit, papita.settings, house.clock)
    request = LoanRequest(token, "ana", "openai", "al-chat")
    assert lender.resolve(request).result(20).secret == {"api_key": KEY}
    lender.close()
    assert papita.credentials.get(ana, info.id).status == "untested"


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_a_loan_outlives_a_database_that_has_just_closed_its_connections(house: House):
    ana = house.sign_in("ana")
    house.key(ana)
    token = house.project_token(ana)
    other = Database(house.settings().database)
    for _ in range(3):
        house.lend(token, "ana")
        with other.read() as session:
            closed = session.scalars(
                text(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid != pg_backend_pid()"
                )
            ).all()
        assert closed
        assert all(closed)
        assert house.lend(token, "ana").secret == {"api_key": KEY}
    other.close()
    # Lending alone asks again at once; the rest asks connections after a second of rest.
    house.papita.database.engine.dispose()
    assert house.papita.audit.verify() == []
