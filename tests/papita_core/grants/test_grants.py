"""Consent and exchange: who may have a project token, and for what."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from papita_core.actors import Actor
from papita_core.audit.service import AuditFilter, Event
from papita_core.errors import (
    ClientRefused,
    ConsentRequired,
    CredentialNotFound,
    Forbidden,
    InvalidInput,
    NotFound,
    ProjectDisabled,
    TokenRequestRefused,
    Unauthenticated,
    VaultSealed,
)
from papita_core.grants.exchanges import ProjectToken
from papita_core.grants.lending import LoanRequest
from papita_core.grants.service import WhichCredential
from tests.papita_core.house import CLIENT_SECRET, House, at_once, both_engines

OPERATOR = Actor.operator()


def user_token(house: House, actor: Actor) -> str:
    return house.papita.projects.user_token(actor, "al-chat").token


def exchange(house: House, token: str) -> ProjectToken:
    return house.papita.grants.exchange("al-chat", token, "openai")


@both_engines
def test_consent_is_given_listed_and_taken_back(house: House):
    ana, grants = house.sign_in("ana"), house.papita.grants
    assert not grants.allowed(ana, "al-chat")
    grants.allow(ana, "al-chat")
    grants.allow(ana, "al-chat")
    assert grants.allowed(ana, "al-chat")
    assert {(g.project_id, g.credential_type) for g in grants.list(ana)} == {
        ("al-chat", "openai"),
        ("al-chat", "mcp"),
    }
    assert not grants.allowed(ana, "ai-resume")
    assert not grants.allowed(house.sign_in("ben"), "al-chat")
    grants.revoke(ana, "al-chat")
    grants.revoke(ana, "al-chat")
    assert not grants.allowed(ana, "al-chat")
    grants.allow(ana, "al-chat")
    assert grants.allowed(ana, "al-chat")
    entries = house.papita.audit.entries(ana, limit=6).items
    assert [entry.event.action for entry in entries] == [
        *["grant.allowed"] * 2,
        *["grant.revoked"] * 2,
        *["grant.allowed"] * 2,
    ]


def test_a_project_that_needs_more_than_before_asks_again(house: House):
    ana, grants = house.sign_in("ana"), house.papita.grants
    grants.allow(ana, "al-chat")
    house.sql("DELETE FROM grants WHERE credential_type = 'mcp'")
    assert not grants.allowed(ana, "al-chat")
    # What was allowed goes on meanwhile.
    assert exchange(house, user_token(house, ana))
    with pytest.raises(ConsentRequired):
        grants.exchange("al-chat", user_token(house, ana), "mcp")
    grants.allow(ana, "al-chat")
    assert grants.exchange("al-chat", user_token(house, ana), "mcp")


@both_engines
def test_consent_given_many_times_at_once_is_one(house: House):
    ana = house.sign_in("ana")
    outcomes = at_once([lambda: house.papita.grants.allow(ana, "al-chat")] * 8)
    assert outcomes == [None] * 8
    assert len(house.papita.grants.list(ana)) == 2  # one for each type that it uses


def test_there_is_no_consent_for_what_is_no_project(house: House):
    ana, grants = house.sign_in("ana"), house.papita.grants
    uses: list[Callable[[], object]] = [
        lambda: grants.allowed(ana, "nothing"),
        lambda: grants.allow(ana, "nothing"),
        lambda: grants.exchange("nothing", user_token(house, ana), "openai"),
        lambda: house.papita.projects.user_token(ana, "nothing"),
        lambda: house.papita.projects.user_token(ana, "ai-resume"),  # not installed
    ]
    for use in uses:
        with pytest.raises(NotFound):
            use()


@both_engines
def test_an_exchange_gives_a_lease_of_five_minutes(house: House):
    ana = house.sign_in("ana")
    house.papita.grants.allow(ana, "al-chat")
    made = exchange(house, user_token(house, ana))
    assert made.token.startswith("papita_lease_")
    assert made.expires_in == 300
    assert made.token not in repr(made)
    assert made.token not in repr(house.sql("SELECT * FROM leases"))
    event = house.papita.audit.entries(ana).items[0].event
    assert (event.action, event.actor_id, event.owner_id, event.lease_id) == (
        *("lease.issued", "al-chat", ana.user_id, made.lease_id),
    )


def test_without_consent_there_is_no_lease(house: House):
    ana = house.sign_in("ana")
    token = user_token(house, ana)
    with pytest.raises(ConsentRequired):
        exchange(house, token)
    house.papita.grants.allow(ana, "al-chat")
    exchange(house, token)
    house.papita.grants.revoke(ana, "al-chat")
    with pytest.raises(ConsentRequired):
        exchange(house, token)
    assert len(house.sql("SELECT id FROM leases")) == 1


def test_a_project_gets_its_own_types_only(house: House):
    ana = house.sign_in("ana")
    house.papita.grants.allow(ana, "al-chat")
    with pytest.raises(TokenRequestRefused) as caught:
        house.papita.grants.exchange("al-chat", user_token(house, ana), "aws")
    assert caught.value.oauth_error == "invalid_scope"


def test_a_token_for_another_audience_is_refused(house: House):
    ana = house.sign_in("ana")
    for project in ("al-chat", "ai-resume"):
        house.papita.grants.allow(ana, project)
    for audience, project in (("al-chat", "ai-resume"), ("ai-resume", "al-chat")):
        token = house.papita.user_tokens.issue(ana, audience).token
        with pytest.raises(TokenRequestRefused) as caught:
            house.papita.grants.exchange(project, token, "openai")
        assert caught.value.oauth_error == "invalid_grant"


def end_session(house: House, actor: Actor) -> None:
    house.papita.sessions.end(actor.session_id or "")


def disable(house: House, actor: Actor) -> None:
    house.papita.users.set_disabled(OPERATOR, actor.username, True)


def reset_password(house: House, actor: Actor) -> None:
    house.papita.users.reset_password(OPERATOR, actor.username, "another long one")


def delete_user(house: House, actor: Actor) -> None:
    house.sql("DELETE FROM users WHERE id = :id", id=actor.user_id)


def idle(house: House, actor: Actor) -> None:
    house.sql("UPDATE sign_in_sessions SET last_seen_at = '2001-01-01 00:00:00.000000'")


def days(house: House, actor: Actor) -> None:
    house.sql("UPDATE sign_in_sessions SET expires_at = '2001-01-01 00:00:00.000000'")


def steal_session(house: House, actor: Actor) -> None:
    house.sql("UPDATE sign_in_sessions SET user_id = :id", id=house.user("eve"))


@pytest.mark.parametrize(
    "way", [end_session, disable, reset_password, delete_user, idle, days, steal_session]
)
def test_a_user_token_is_worth_nothing_once_its_sign_in_has_ended(
    house: House, way: Callable[[House, Actor], None]
):
    ana = house.sign_in("ana")
    house.papita.grants.allow(ana, "al-chat")
    token = user_token(house, ana)
    exchange(house, token)
    way(house, ana)
    with pytest.raises(TokenRequestRefused) as caught:
        exchange(house, token)
    assert caught.value.oauth_error == "invalid_grant"


def consenting(house: House, name: str) -> Actor:
    actor = house.sign_in(name)
    house.papita.grants.allow(actor, "al-chat")
    return actor


def by_access_token(house: House, name: str) -> Actor:
    house.user(name)
    actor = house.papita.access_tokens.actor(house.access_token(name, "projects:launch"))
    assert actor is not None
    return actor


def leases_issued(house: House) -> list[Event]:
    wanted = AuditFilter(action="lease.issued")
    return [entry.event for entry in house.papita.audit.entries(OPERATOR, wanted, limit=500).items]


@both_engines
def test_of_exchanges_at_the_same_moment_each_gets_its_own(house: House):
    actors = [consenting(house, f"user{number}") for number in range(6)]
    actors += [by_access_token(house, "pat"), consenting(house, "gone"), consenting(house, "off")]
    actors += [house.sign_in("unasked"), by_access_token(house, "revoked"), actors[0]]
    asked = [(actor.username, user_token(house, actor)) for actor in actors]
    end_session(house, actors[7])
    disable(house, actors[8])
    house.papita.access_tokens.revoke(OPERATOR, actors[10].token_id or "")
    asked.append(("forged", asked[0][1][:-2]))
    for _ in range(5):
        before = len(leases_issued(house))
        outcomes = at_once(
            [
                lambda name=name, token=token: house.papita.grants.exchange(
                    "al-chat", token, "openai", request_id=name
                )
                for name, token in asked
            ]
        )
        refused = {
            name: getattr(outcome, "oauth_error", type(outcome))
            for (name, _), outcome in zip(asked, outcomes, strict=True)
            if not isinstance(outcome, ProjectToken)
        }
        assert refused == {
            "gone": "invalid_grant",
            "off": "invalid_grant",
            "unasked": ConsentRequired,
            "revoked": "invalid_grant",
            "forged": "invalid_grant",
        }
        made = [outcome for outcome in outcomes if isinstance(outcome, ProjectToken)]
        assert len({one.token for one in made}) == len(made) == 8
        # Each is on the record by itself, and what was refused is not.
        events = leases_issued(house)[: len(made)]
        assert len(leases_issued(house)) == before + len(made)
        by_lease = {event.lease_id: event for event in events}
        for (name, _), actor, outcome in zip(asked, actors, outcomes, strict=False):
            if isinstance(outcome, ProjectToken):
                event = by_lease[outcome.lease_id]
                assert (event.owner_id, event.request_id) == (actor.user_id, name)
                assert (event.subject_id is None) == (name == "pat")
                with pytest.raises(CredentialNotFound):  # the lease is live, there is no key
                    house.lend(outcome.token, name)
    assert house.papita.audit.verify() == []


def together(house: House, *asked: tuple[str, str | None]) -> list[ProjectToken | BaseException]:
    """Exchanges (user token, request id) of which all but the first are served together."""
    grants, database = house.papita.grants, house.papita.database
    with ThreadPoolExecutor(len(asked)) as pool:
        futures: list[Future[ProjectToken]] = []
        with database.write() as session:
            house.papita.audit.append(session, Event("test"))  # holds the end of the log
            for number, (token, request_id) in enumerate(asked):
                futures.append(
                    pool.submit(grants.exchange, "al-chat", token, "openai", request_id=request_id)
                )
                end = time.monotonic() + 30
                exchanges = grants._exchanges
                while not exchanges._working or len(exchanges._waiting) < number:
                    assert time.monotonic() < end
                    time.sleep(0.001)
        return [future.exception(30) or future.result() for future in futures]


@both_engines
def test_those_that_wait_share_one_transaction(house: House):
    tokens = [user_token(house, consenting(house, f"user{number}")) for number in range(9)]
    unasked = user_token(house, house.sign_in("unasked"))
    asked = [(token, None) for token in [*tokens, unasked]]
    outcomes = together(house, *asked)
    assert [type(outcome) for outcome in outcomes] == [*[ProjectToken] * 9, ConsentRequired]
    wanted = AuditFilter(action="lease.issued")
    entries = house.papita.audit.entries(OPERATOR, wanted).items
    assert len(entries) == 9
    assert len({entry.at for entry in entries}) == 2
    assert house.papita.audit.verify() == []


@both_engines
def test_what_is_wrong_with_one_exchange_is_not_held_against_the_others(house: House):
    tokens = [user_token(house, consenting(house, f"user{number}")) for number in range(5)]
    unwritable = "\ud800"
    names = ["a", "b", unwritable, "d", "e"]
    outcomes = together(house, *zip(tokens, names, strict=True))
    assert [type(outcome) for outcome in outcomes] == [
        *(ProjectToken, ProjectToken, UnicodeEncodeError, ProjectToken, ProjectToken),
    ]
    assert sorted(event.request_id or "" for event in leases_issued(house)) == ["a", "b", "d", "e"]
    assert len(house.sql("SELECT id FROM leases")) == 4
    assert house.papita.audit.verify() == []


@both_engines
def test_a_database_that_fails_leaves_nobody_waiting(house: House):
    tokens = [user_token(house, consenting(house, f"user{number}")) for number in range(8)]
    calls = [lambda token=token: exchange(house, token) for token in tokens]
    house.sql("ALTER TABLE leases RENAME TO away")
    assert all(isinstance(outcome, DBAPIError) for outcome in at_once(calls))
    house.sql("ALTER TABLE away RENAME TO leases")
    assert all(isinstance(outcome, ProjectToken) for outcome in at_once(calls))


def test_a_project_that_is_off_and_a_sealed_vault_are_told_to_each(house: House):
    ana, ben = consenting(house, "ana"), house.sign_in("ben")
    tokens = [user_token(house, actor) for actor in (ana, ben, ana, ben)]
    sealed = house.opened(PAPITA_MASTER_KEY=bytes(range(32)).hex())
    outcomes = at_once(
        [lambda token=token: sealed.grants.exchange("al-chat", token, "openai") for token in tokens]
    )
    assert [type(outcome) for outcome in outcomes] == [VaultSealed, ConsentRequired] * 2
    house.papita.projects.set_disabled(OPERATOR, "al-chat", True)
    outcomes = at_once([lambda token=token: exchange(house, token) for token in tokens])
    assert [type(outcome) for outcome in outcomes] == [ProjectDisabled] * 4
    assert house.sql("SELECT id FROM leases") == []


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
@pytest.mark.parametrize("table", ["users", "sign_in_sessions", "grants"])
def test_whoever_is_being_changed_is_waited_for_by_nobody_else(house: House, table: str):
    ana, others = consenting(house, "ana"), [consenting(house, name) for name in ("ben", "cyd")]
    tokens = [user_token(house, actor) for actor in (others[0], ana, others[1])]
    changed, done = threading.Event(), threading.Event()
    column = "id" if table == "users" else "user_id"

    def change() -> None:
        with house.papita.database.write() as session:
            query = text(f"SELECT id FROM {table} WHERE {column} = :id FOR UPDATE")
            session.execute(query, {"id": ana.user_id})
            changed.set()
            assert done.wait(30)

    with ThreadPoolExecutor(4) as pool:
        changing = pool.submit(change)
        assert changed.wait(30)
        try:
            first, hers, second = (pool.submit(exchange, house, token) for token in tokens)
            assert isinstance(first.result(20), ProjectToken)
            assert isinstance(second.result(20), ProjectToken)
            assert not wait([hers], 0.2).done
        finally:
            done.set()
        assert isinstance(hers.result(20), ProjectToken)
        changing.result(20)
    assert house.papita.audit.verify() == []


@both_engines
def test_an_access_token_carries_the_consent_of_its_user(house: House):
    ana = house.sign_in("ana")
    house.key(ana)
    actor = house.papita.access_tokens.actor(house.access_token("ana", "projects:launch"))
    assert actor is not None
    token = user_token(house, actor)
    house.lend(exchange(house, token).token, "ana")
    assert not house.papita.grants.allowed(ana, "al-chat")
    house.papita.access_tokens.revoke(ana, actor.token_id or "")
    with pytest.raises(TokenRequestRefused):
        exchange(house, token)


@both_engines
def test_revoking_reaches_the_leases_of_access_tokens_too(house: House):
    ana = house.sign_in("ana")
    house.key(ana)
    actor = house.papita.access_tokens.actor(house.access_token("ana"))
    assert actor is not None
    lease = exchange(house, user_token(house, actor)).token
    house.papita.grants.revoke(ana, "al-chat")
    with pytest.raises(Unauthenticated):
        house.lend(lease, "ana")


def test_an_access_token_without_the_scope_opens_no_project(house: House):
    house.user("ana")
    actor = house.papita.access_tokens.actor(house.access_token("ana", "credentials:read"))
    assert actor is not None
    for use in (
        lambda: user_token(house, actor),
        lambda: house.papita.grants.allow(actor, "al-chat"),
        lambda: house.papita.grants.revoke(actor, "al-chat"),
    ):
        with pytest.raises(Forbidden):
            use()


@pytest.mark.parametrize(
    ("client_id", "secret"),
    [
        ("al-chat", ""),
        ("al-chat", CLIENT_SECRET + "x"),
        ("al-chat", CLIENT_SECRET[:-1]),
        ("al-chat", "ü"),
        ("AL-CHAT", CLIENT_SECRET),
        ("ai-resume", CLIENT_SECRET),
        ("", CLIENT_SECRET),
        ("", ""),
    ],
)
def test_a_foreign_client_is_refused(house: House, client_id: str, secret: str):
    with pytest.raises(ClientRefused):
        house.papita.grants.client_project(client_id, secret)


def test_the_client_is_known_by_id_and_secret(house: House):
    assert house.papita.grants.client_project("al-chat", CLIENT_SECRET) == "al-chat"
    renamed = house.opened(ALCHAT_CLIENT_ID="chat-2")
    assert renamed.grants.client_project("chat-2", CLIENT_SECRET) == "al-chat"
    with pytest.raises(ClientRefused):
        renamed.grants.client_project("al-chat", CLIENT_SECRET)


def test_which_key_a_project_gets_is_explained(house: House):
    ada, ana = house.sign_in("ada", "administrator"), house.sign_in("ana")
    grants, credentials = house.papita.grants, house.papita.credentials
    which = grants.which(ana, "al-chat")
    assert (which.credential, which.reason, which.code) == (None, None, "credential-not-found")
    shared = house.key(ada, label="Team")
    credentials.share(ada, shared.id, everybody=True, usernames=[], etag="*")
    which = grants.which(ana, "al-chat")
    assert which.credential == WhichCredential(shared.id, "Team", "openai", "ada")
    assert (which.reason, which.code) == ("shared", None)
    mine = house.key(ana, label="Mine")
    which = grants.which(ana, "al-chat")
    assert which.credential == WhichCredential(mine.id, "Mine", "openai", None)
    assert which.reason == "all-projects"
    own = house.key(ana, label="Chat", project_id="al-chat")
    which = grants.which(ana, "al-chat")
    assert which.credential is not None
    assert (which.credential.id, which.reason) == (own.id, "project")
    assert "AL-Chat" in which.sentence
    assert "Chat" in which.sentence
    house.papita.projects.set_disabled(ada, "al-chat", True)
    which = grants.which(ana, "al-chat")
    assert (which.credential, which.code) == (None, "project-disabled")
    assert grants.which(ana, "ai-resume").reason == "all-projects"
    with pytest.raises(NotFound):
        grants.which(ana, "nothing")


@pytest.mark.parametrize("status", ["rejected", "unreadable"])
def test_a_key_that_will_fail_is_chosen_and_said_to_fail(house: House, status: str):
    ana = house.sign_in("ana")
    house.key(ana)
    house.sql("UPDATE credentials SET status = :status", status=status)
    which = house.papita.grants.which(ana, "al-chat")
    assert which.credential is not None
    assert "replace the key" in which.sentence


def test_an_explanation_is_for_who_may_read_or_launch(house: House):
    house.user("ana")
    for scope, may in (
        *(("credentials:read", True), ("projects:launch", True), ("credentials:write", False)),
    ):
        actor = house.papita.access_tokens.actor(house.access_token("ana", scope))
        assert actor is not None
        if may:
            house.papita.grants.which(actor, "al-chat")
            continue
        with pytest.raises(Forbidden):
            house.papita.grants.which(actor, "al-chat")


@both_engines
def test_users_see_every_time_that_a_project_asked_for_their_keys(house: House):
    ana, ben = house.sign_in("ana"), house.sign_in("ben")
    info = house.key(ana, label="Mine")
    house.key(ben)
    token = house.project_token(ana)
    house.lend(house.project_token(ben), "ben")
    for number in range(5):
        request = LoanRequest(token, "ana", "openai", "al-chat", run_id=f"run-{number}")
        house.papita.lender.resolve(request).result(30)
    house.papita.credentials.delete(ana, info.id, etag="*")
    with pytest.raises(CredentialNotFound):
        house.lend(token, "ana")
    reads = house.papita.grants.reads
    found, cursor = [], None
    while True:
        page = reads(ana, "al-chat", cursor=cursor, limit=2)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
    assert [(read.run_id, read.outcome) for read in found] == [
        (None, "credential-not-found"),
        *((f"run-{number}", "ok") for number in (4, 3, 2, 1, 0)),
    ]
    assert {read.credential_id for read in found} == {None, info.id}
    assert {read.label for read in found} == {None}  # it is gone
    assert reads(ana, "ai-resume").items == []
    (his,) = reads(ben, "al-chat").items
    assert his.label == "OpenAI"
    with pytest.raises(NotFound):
        reads(ana, "nothing")
    for bad in ({"limit": 0}, {"cursor": "x"}):
        with pytest.raises(InvalidInput):
            reads(ana, "al-chat", **bad)
