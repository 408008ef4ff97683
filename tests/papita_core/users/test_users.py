"""Accounts: made once, found among many, changed by who may, never without an administrator."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event, insert

from papita_core.actors import Actor
from papita_core.db import new_id
from papita_core.errors import (
    AlreadyExists,
    ApprovalPending,
    Conflict,
    CredentialNotFound,
    Forbidden,
    InvalidInput,
    NotFound,
    ReauthenticationRequired,
    SignInRefused,
    Unauthenticated,
)
from papita_core.users.directory import STATES, UserFilter
from papita_core.users.models import UserRow, searchable
from papita_core.users.service import NewUser, User
from tests.papita_core.house import KEY, PASSWORD, House, at_once, both_engines

OPERATOR = Actor.operator()
Change = Callable[[Actor, str], object]


def changes(house: House) -> dict[str, Change]:
    """Every change that an administrator can make to an account."""
    users = house.papita.users
    return {
        "role": lambda actor, name: users.set_role(actor, name, "guest"),
        "disable": lambda actor, name: users.set_disabled(actor, name, True),
        "enable": lambda actor, name: users.set_disabled(actor, name, False),
        "approve": users.approve,
        "refuse": users.refuse,
        "end sessions": users.end_sessions,
        "dismiss": users.dismiss_reset,
        "delete": lambda actor, name: delete(house, actor, name),
    }


def delete(house: House, actor: Actor, name: str) -> None:
    row = house.papita.users.listed(OPERATOR, name)
    # One's own is confirmed by name, those of others are not.
    confirmation = name if row.id == actor.user_id else None
    house.papita.account.delete(actor, row.id, confirmation=confirmation)


def waiting(house: House, name: str) -> None:
    house.user(name)
    house.sql(
        "UPDATE users SET awaits_approval_since = created_at, disabled_at = created_at"
        " WHERE username = :name",
        name=name,
    )


def actions(house: House) -> list[tuple[str, str | None]]:
    return [
        (entry.event.action, entry.event.actor_id)
        for entry in house.papita.audit.entries(OPERATOR, limit=200).items
    ]


# --- making ---


@both_engines
def test_a_name_is_given_once_however_it_is_spelled(house: House):
    users = house.papita.users
    made = users.create(OPERATOR, NewUser(" Ana ", PASSWORD, "Ana Belén", "ana@example.org"))
    assert (made.username, made.display_name, made.email) == ("ana", "Ana Belén", "ana@example.org")
    assert users.by_id(made.id) == made
    assert users.by_username("ANA") == made
    with pytest.raises(AlreadyExists):
        users.create(OPERATOR, NewUser("aNA", PASSWORD))
    outcomes = at_once([lambda: users.create(OPERATOR, NewUser("ben", PASSWORD))] * 4)
    assert sum(isinstance(outcome, User) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, AlreadyExists) for outcome in outcomes) == 3
    assert [user.username for user in users.list(OPERATOR)] == ["ana", "ben"]


@pytest.mark.parametrize("role", ["member", "guest"])
def test_only_who_manages_users_may(house: House, role: str):
    actor, users = house.sign_in("eve", role), house.papita.users
    house.user("ben")
    uses: list[Callable[[], object]] = [
        lambda change=change: change(actor, "ben") for change in changes(house).values()
    ]
    for use in (
        *uses,
        lambda: users.create(actor, NewUser("x", PASSWORD, role="administrator")),
        lambda: users.reset_password(actor, "eve", PASSWORD),
        lambda: users.list(actor),
        lambda: users.page(actor),
        lambda: users.listed(actor, "eve"),
        lambda: users.matching(actor, UserFilter()),
        lambda: users.counts(actor),
        lambda: users.names(actor),
    ):
        with pytest.raises(Forbidden):
            use()
    assert users.count() == 2


def test_a_token_of_an_administrator_manages_nobody(house: House):
    house.sign_in("ada", "administrator")
    actor = house.papita.access_tokens.actor(house.access_token("ada"))
    assert actor is not None
    with pytest.raises(Forbidden):
        house.papita.users.list(actor)


def test_every_change_wants_a_fresh_proof(house: House):
    ada = house.sign_in("ada", "administrator")
    house.user("ben")
    house.clock.forward(minutes=5)
    for change in changes(house).values():
        with pytest.raises(ReauthenticationRequired):
            change(ada, "ben")
    stale = replace(ada, proved_at=None)
    for change in changes(house).values():
        with pytest.raises(ReauthenticationRequired):
            change(stale, "ben")
    assert house.papita.users.page(ada).items[1].state == "enabled"


def test_an_administrator_knows_and_sets_no_password(house: House):
    ada = house.sign_in("ada", "administrator")
    house.user("ben")
    with pytest.raises(Forbidden, match="Make a link"):
        house.papita.users.reset_password(ada, "ben", "another long one")
    with pytest.raises(Forbidden, match="Make a link"):
        house.papita.users.create(ada, NewUser("cleo", PASSWORD))
    assert house.papita.users.by_username("cleo") is None


def test_unknown_names_are_not_found(house: House):
    for change in changes(house).values():
        for name in ("nobody", "no\0body"):
            with pytest.raises(NotFound):
                change(OPERATOR, name)
    with pytest.raises(NotFound):
        house.papita.users.reset_password(OPERATOR, "nobody", PASSWORD)
    with pytest.raises(NotFound):
        house.papita.users.listed(OPERATOR, "no\0body")
    assert house.papita.users.by_username("no\0body") is None


def test_a_reset_password_is_the_only_one(house: House):
    house.user("ana")
    house.papita.users.reset_password(OPERATOR, "ana", "another long one")
    assert house.papita.sign_in.authenticate("ana", "another long one")
    with pytest.raises(SignInRefused):
        house.papita.sign_in.authenticate("ana", PASSWORD)


# --- the last administrator ---


@both_engines
@pytest.mark.parametrize("way", ["role", "disable", "delete"])
def test_the_last_administrator_stays(house: House, way: str):
    change = changes(house)[way]
    ada = house.sign_in("ada", "administrator")
    with pytest.raises(Conflict, match="last administrator"):
        change(ada, "ada")
    with pytest.raises(Conflict, match="last administrator"):
        change(OPERATOR, "ada")
    house.user("bea", "administrator")
    outcomes = at_once([lambda name=name: change(ada, name) for name in ("ada", "bea")])
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 1
    assert house.papita.users.counts(OPERATOR).administrators >= 1
    left = house.papita.users.page(OPERATOR, UserFilter(role="administrator")).items
    assert [user.state for user in left].count("enabled") == 1


@both_engines
def test_of_six_different_ways_at_once_one_administrator_is_left(house: House):
    names = [f"admin{number}" for number in range(6)]
    for name in names:
        house.user(name, "administrator")
    ways = list(changes(house).items())
    chosen = [ways[place][1] for place in (0, 1, 7, 0, 1, 7)]
    outcomes = at_once(
        [
            lambda name=name, change=change: change(OPERATOR, name)
            for name, change in zip(names, chosen, strict=True)
        ]
    )
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 1
    left = house.papita.users.page(OPERATOR, UserFilter(role="administrator", state="enabled"))
    assert len(left.items) == 1
    assert house.papita.audit.verify() == []


def test_who_cannot_come_in_does_not_count_as_an_administrator(house: House):
    house.user("ada", "administrator")
    house.user("bea", "administrator")
    users = house.papita.users
    users.set_disabled(OPERATOR, "bea", True)
    with pytest.raises(Conflict):
        users.set_role(OPERATOR, "ada", "member")
    delete(house, OPERATOR, "bea")  # is none of whom there has to be one


# --- roles ---


@both_engines
def test_a_role_is_in_force_at_once(house: House):
    house.user("ada", "administrator")
    ben = house.sign_in("ben")
    assert ben.session_id is not None

    def now() -> Actor:
        session = house.papita.sessions.by_id(str(ben.session_id))
        assert session is not None
        return Actor.for_session(session)

    token = house.access_token("ben")
    house.papita.users.set_role(OPERATOR, "ben", "administrator")
    assert now().may("users:manage")
    house.papita.users.set_role(OPERATOR, "ben", "guest")
    assert not now().may("credentials:read")
    assert now().may("projects:launch")
    actor = house.papita.access_tokens.actor(token)
    assert actor is not None
    assert not actor.may("credentials:read")
    with pytest.raises(InvalidInput):
        house.papita.users.set_role(OPERATOR, "ben", "owner")
    changed = [
        entry.event.details
        for entry in house.papita.audit.entries(OPERATOR).items
        if entry.event.action == "user.role-changed"
    ]
    assert changed == [
        {"before": "administrator", "role": "guest"},
        {"before": "member", "role": "administrator"},
    ]


def test_the_same_role_again_is_no_change(house: House):
    house.user("ada", "administrator")
    assert house.papita.users.set_role(OPERATOR, "ada", "administrator").role == "administrator"
    assert "user.role-changed" not in [action for action, _ in actions(house)]


@both_engines
def test_a_guest_is_lent_no_key_of_their_own(house: House):
    house.user("ada", "administrator")
    ben = house.sign_in("ben")
    house.key(ben)
    token = house.project_token(ben)
    assert house.lend(token, "ben").secret is not None
    house.papita.users.set_role(OPERATOR, "ben", "guest")
    with pytest.raises(Unauthenticated):  # what was lent before is taken back
        house.lend(token, "ben")
    with pytest.raises(CredentialNotFound):
        house.lend(house.project_token(ben), "ben")
    house.papita.users.set_role(OPERATOR, "ben", "member")
    assert house.lend(house.project_token(ben), "ben").secret is not None


# --- coming in ---


@both_engines
def test_who_waits_is_let_in_or_refused(house: House):
    users = house.papita.users
    for name in ("ana", "ben", "cleo"):
        waiting(house, name)
    with pytest.raises(ApprovalPending):
        house.papita.sign_in.authenticate("ana", PASSWORD)
    users.approve(OPERATOR, "ana")
    assert house.papita.sign_in.authenticate("ana", PASSWORD)
    users.set_disabled(OPERATOR, "ben", False)
    assert users.listed(OPERATOR, "ben").state == "enabled"
    users.refuse(OPERATOR, "cleo")
    assert users.by_username("cleo") is None
    for use in (users.approve, users.refuse):
        with pytest.raises(Conflict, match="does not wait"):
            use(OPERATOR, "ana")
    assert [action for action, _ in actions(house)][:3] == [
        "user.refused",
        "user.approved",
        "user.approved",
    ]


@both_engines
def test_of_approving_and_refusing_at_once_one_wins(house: House):
    waiting(house, "ana")
    users = house.papita.users
    outcomes = at_once(
        [lambda: users.approve(OPERATOR, "ana"), lambda: users.refuse(OPERATOR, "ana")]
    )
    assert sum(isinstance(outcome, Conflict | NotFound) for outcome in outcomes) == 1


@both_engines
def test_ending_all_sessions_leaves_the_account_as_it_is(house: House):
    ben = house.sign_in("ben")
    users = house.papita.users
    house.papita.sessions.start(ben.user_id)
    users.end_sessions(OPERATOR, "ben")
    assert house.papita.sessions.of_user(ben.user_id) == []
    assert house.papita.sign_in.authenticate("ben", PASSWORD)
    assert actions(house)[0] == ("user.signed-out", "operator")


@both_engines
def test_what_is_deleted_is_gone(house: House):
    ben = house.sign_in("ben")
    house.key(ben)
    token = house.project_token(ben)
    delete(house, OPERATOR, "ben")
    assert house.papita.users.by_username("ben") is None
    assert house.papita.sessions.of_user(ben.user_id) == []
    with pytest.raises(Unauthenticated):
        house.lend(token, "ben")
    for table in ("credentials", "credential_secrets", "sign_in_sessions", "leases"):
        assert house.sql(f"SELECT count(*) FROM {table}") == [(0,)]
    assert KEY not in repr(house.papita.audit.entries(OPERATOR).items)
    assert house.papita.audit.verify() == []
    house.user("ben")  # the name is free


# --- finding ---


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["ana", "bjoern", "ben", "waldo"]),
        ("ANA", ["ana"]),
        ("belen", ["ana"]),
        ("Belén ana", ["ana"]),
        ("björn", ["bjoern"]),
        ("strasse", ["bjoern"]),
        ("example.org", ["ana", "ben"]),
        ("%", []),
        ("_", []),
        ("\\", []),
        ("x' OR 1=1 --", []),
        ("\0", []),
        ("nobody", []),
    ],
)
@both_engines
def test_search(house: House, text: str, found: list[str]):
    for new in (
        NewUser("ana", PASSWORD, "Ana Belén", "ana@example.org"),
        NewUser("ben", PASSWORD, "", "BEN@Example.ORG"),
        NewUser("bjoern", PASSWORD, "Björn Straße"),
        NewUser("waldo", PASSWORD),
    ):
        with house.papita.database.write() as session:
            house.papita.users.add(session, new, "", actor_id="test")
    items = house.papita.users.page(OPERATOR, UserFilter(text)).items
    assert {user.username for user in items} == set(found)
    assert house.papita.users.matching(OPERATOR, UserFilter(text)) == len(found)


@both_engines
def test_pages_lead_through_everybody_once(house: House):
    names = [f"user-{number}" for number in range(7)] + ["user.a", "user_b", "zoe"]
    for name in names:
        house.user(name)
    found, cursor = [], None
    while True:
        page = house.papita.users.page(OPERATOR, cursor=cursor, limit=3)
        found += [user.username for user in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
        house.user(f"a{len(found)}")  # who comes before the place is not met, nobody comes twice
    assert sorted(found) == sorted(names)
    assert len(found) == len(set(found))


def test_filters_by_role_and_state(house: House):
    users = house.papita.users
    house.user("ada", "administrator")
    house.user("gus", "guest")
    house.user("off")
    users.set_disabled(OPERATOR, "off", True)
    waiting(house, "new")
    house.user("lost")
    house.sql("UPDATE users SET reset_asked_at = created_at WHERE username = 'lost'")
    ada = users.by_username("ada")
    assert ada is not None
    house.sql(
        "INSERT INTO passkeys (id, user_id, credential_id, public_key, sign_count, name,"
        " backed_up, created_at) SELECT 'p', id, 'c', x'00', 0, 'key', 0, created_at"
        " FROM users WHERE username = 'ada'"
    )

    def found(**how: Any) -> list[str]:
        return [user.username for user in users.page(OPERATOR, UserFilter(**how)).items]

    assert found(role="administrator") == ["ada"]
    assert found(role="guest", state="enabled") == ["gus"]
    assert found(state="enabled") == ["ada", "gus", "lost"]
    assert found(state="disabled") == ["off"]
    assert found(state="waiting") == ["new"]
    assert found(state="asked-for-reset") == ["lost"]
    assert found(state="no-second-factor") == ["gus", "lost"]
    counts = users.counts(OPERATOR)
    assert (counts.total, counts.administrators, counts.disabled) == (5, 1, 1)
    assert (counts.waiting, counts.reset_asked) == (1, 1)
    assert users.listed(OPERATOR, "ada").second_factor
    assert users.listed(OPERATOR, "new").state == "waiting"


@pytest.mark.parametrize(
    "wanted", [UserFilter("x" * 201), UserFilter(role="owner"), UserFilter(state="gone")]
)
def test_a_filter_that_is_none(house: House, wanted: UserFilter):
    for ask in (house.papita.users.page, house.papita.users.matching):
        with pytest.raises(InvalidInput):
            ask(OPERATOR, wanted)
    for limit in (0, 201):
        with pytest.raises(InvalidInput):
            house.papita.users.page(OPERATOR, limit=limit)
    with pytest.raises(InvalidInput):
        house.papita.users.page(OPERATOR, cursor="a\0b")


def test_who_was_seen_when(house: House):
    ben = house.sign_in("ben")
    house.user("idle")
    seen = {user.username: user.last_seen_at for user in house.papita.users.page(OPERATOR).items}
    session = house.papita.sessions.of_user(ben.user_id)[0]
    assert seen == {"ben": session.last_seen_at, "idle": None}


def test_a_changed_name_is_found_and_a_renamed_one_no_longer(house: House):
    house.user("ana")
    with house.papita.database.write() as session:
        row = session.get(UserRow, house.papita.users.list(OPERATOR)[0].id)
        assert row is not None
        row.display_name, row.email = "Zoë", "zoe@example.org"
    users = house.papita.users
    assert [user.name for user in users.page(OPERATOR, UserFilter("zoe")).items] == ["Zoë"]
    assert users.page(OPERATOR, UserFilter("example.org")).items


@both_engines
def test_ten_thousand_users(house: House):
    """Every call takes milliseconds and reads what it shows, not everybody."""
    house.user("ada", "administrator")
    now = house.clock()
    rows = [
        {
            "id": new_id(),
            "username": f"user{number:05}",
            "display_name": f"Person Number {number}",
            "email": f"user{number:05}@example.org",
            "email_key": f"user{number:05}@example.org",
            "password_hash": "",
            "role": "member",
            "created_at": now,
            "search_key": searchable(f"user{number:05}\nPerson Number {number}"),
            "disabled_at": now if number % 1000 == 0 else None,
        }
        for number in range(10_000)
    ]
    with house.papita.database.write() as session:
        session.execute(insert(UserRow), rows)
    if not house.papita.database.is_sqlite:
        house.sql("ANALYZE users")
    users = house.papita.users
    every = [UserFilter("person 0999"), UserFilter("nobody has this"), UserFilter("user")]
    every += [UserFilter(state=state) for state in STATES]
    every += [UserFilter(role=role) for role in ("administrator", "guest")]
    for wanted in (UserFilter(), *every):
        took = _fastest(lambda wanted=wanted: users.page(OPERATOR, wanted, limit=25))
        assert took < 0.02, wanted
    assert _fastest(lambda: users.page(OPERATOR, cursor="user09000", limit=25)) < 0.01
    assert _fastest(lambda: users.counts(OPERATOR)) < 0.01
    assert _fastest(lambda: users.names(OPERATOR)) < 0.01
    assert _fastest(house.papita.setup.pending) < 0.005
    assert len(users.page(OPERATOR, UserFilter("person 0999")).items) == 11
    assert users.counts(OPERATOR).disabled == 10


def _fastest(call: Callable[[], object]) -> float:
    """Seconds of this thread, which SQLite works in, however busy the machine is."""
    taken = []
    for _ in range(5):
        begin = time.thread_time()
        call()
        taken.append(time.thread_time() - begin)
    return min(taken)


def test_whether_there_is_a_user_counts_nobody(house: House):
    statements: list[str] = []
    engine = house.papita.database.engine

    def note(*arguments: Any) -> None:
        statements.append(arguments[2])

    event.listen(engine, "before_cursor_execute", note)
    assert house.papita.setup.pending()
    event.remove(engine, "before_cursor_execute", note)
    assert any("FROM users" in statement for statement in statements)
    assert not any(re.search(r"count\(", statement) for statement in statements)
