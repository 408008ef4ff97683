"""Sharing: others use a credential through projects and never see it; administrators can block."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from papita_core.actors import Actor
from papita_core.errors import (
    CredentialDisabled,
    CredentialNotFound,
    Forbidden,
    InvalidInput,
    PreconditionFailed,
)
from papita_core.vault.service import CredentialInfo
from tests.papita_core.house import KEY, House, both_engines


def share(
    house: House, ada: Actor, info: CredentialInfo, *names: str, everybody: bool = False
) -> CredentialInfo:
    return house.papita.credentials.share(
        ada, info.id, everybody=everybody, usernames=names, etag=info.etag
    )


@both_engines
def test_who_is_named_sees_that_it_is_there_and_not_what_it_is(house: House):
    ada, ben, eve = (
        house.sign_in("ada", "administrator"),
        house.sign_in("ben"),
        house.sign_in("eve"),
    )
    gus = house.sign_in("gus", "guest")
    credentials = house.papita.credentials
    info = house.key(ada, label="team", base_url="https://ai.example/a/secret/path")
    assert info.shared == "nobody"
    info = share(house, ada, info, "Ben", "gus", "ada")
    assert (info.shared, credentials.get(ada, info.id)) == ("named", info)
    assert credentials.shares(ada, info.id).usernames == ("ben", "gus")
    for actor in (ben, gus):
        (seen,) = credentials.shared_with_me(actor)
        assert (seen.id, seen.label, seen.owner_name) == (info.id, "team", "ada")
        assert seen.origin == "https://ai.example"
        assert "cdef" not in repr(seen)
        assert "path" not in repr(seen)
    assert credentials.shared_with_me(eve) == credentials.shared_with_me(ada) == []
    for use in (
        lambda: credentials.get(ben, info.id),
        lambda: credentials.test(ben, info.id),
        lambda: credentials.uses(ben, info.id),
        lambda: credentials.delete(ben, info.id, etag="*"),
    ):
        with pytest.raises(CredentialNotFound):
            use()
    assert credentials.list(ben).items == []


@both_engines
def test_sharing_with_everybody_and_ending_it(house: House):
    ada, ben = house.sign_in("ada", "administrator"), house.sign_in("ben")
    credentials = house.papita.credentials
    info = share(house, ada, house.key(ada), everybody=True)
    assert info.shared == "everybody"
    assert [item.id for item in credentials.shared_with_me(ben)] == [info.id]
    token = house.project_token(ben)
    assert house.lend(token, "ben").secret == {"api_key": KEY}
    (use,) = credentials.uses(ada, info.id).items
    assert (use.username, use.project_id) == ("ben", "al-chat")
    info = share(house, ada, info)
    assert info.shared == "nobody"
    assert credentials.shared_with_me(ben) == []
    with pytest.raises(CredentialNotFound):
        house.lend(token, "ben")
    entries = house.papita.audit.entries(ada).items
    events = {entry.event.action: entry.event for entry in entries}
    assert events["credential.shared"].details["everybody"] is True
    assert "credential.unshared" in events


def test_what_a_disabled_user_shares_is_not_there(house: House):
    ada, ben = house.sign_in("ada", "administrator"), house.sign_in("ben")
    house.user("zoe", "administrator")
    share(house, ada, house.key(ada), everybody=True)
    house.papita.users.set_disabled(Actor.operator(), "ada", True)
    assert house.papita.credentials.shared_with_me(ben) == []


def test_only_an_administrator_shares_and_only_an_own_credential(house: House):
    ada, ben = house.sign_in("ada", "administrator"), house.sign_in("ben")
    mine, foreign = house.key(ada), house.key(ben)
    with pytest.raises(Forbidden):
        share(house, ben, foreign, "ada")
    with pytest.raises(Forbidden):
        house.papita.credentials.shares(ben, foreign.id)
    for use in (
        lambda: share(house, ada, foreign, "ada"),
        lambda: house.papita.credentials.shares(ada, foreign.id),
    ):
        with pytest.raises(CredentialNotFound):
            use()
    with pytest.raises(PreconditionFailed):
        house.papita.credentials.share(ada, mine.id, everybody=True, usernames=(), etag='"x"')
    assert house.papita.credentials.get(ada, mine.id).shared == "nobody"


@pytest.mark.parametrize("names", [("nobody",), ("ben", "sk-canary"), ("\0",), ("\ud800",)])
def test_a_name_that_no_user_has_is_refused_and_not_repeated(house: House, names: tuple[str, ...]):
    ada = house.sign_in("ada", "administrator")
    house.user("ben")
    info = house.key(ada)
    with pytest.raises(InvalidInput) as caught:
        share(house, ada, info, *names)
    assert list(caught.value.errors) == ["usernames"]
    assert "canary" not in str(caught.value)
    with pytest.raises(InvalidInput):
        share(house, ada, info, *["ben"] * 201)
    assert house.papita.credentials.shares(ada, info.id).usernames == ()


@both_engines
def test_an_administrator_blocks_anybodys_credential_and_sees_no_part_of_it(house: House):
    ada, ana = house.sign_in("ada", "administrator"), house.sign_in("ana")
    credentials = house.papita.credentials
    info = house.key(ana, label="mine", base_url="https://ai.example/secret/path")
    token = house.project_token(ana)
    (seen,) = credentials.everyones(ada).items
    assert (seen.id, seen.label, seen.owner_name, seen.blocked) == (info.id, "mine", "ana", False)
    for hidden in ("cdef", "path", "ai.example"):
        assert hidden not in repr(seen)
    credentials.set_blocked(ada, info.id, True)
    credentials.set_blocked(ada, info.id, True)
    assert credentials.get(ana, info.id).status == "blocked"
    assert credentials.everyones(ada).items[0].blocked
    with pytest.raises(CredentialDisabled):
        house.lend(token, "ana")
    on_again = credentials.get(ana, info.id)
    assert credentials.set_disabled(ana, info.id, False, etag=on_again.etag).blocked
    credentials.set_blocked(ada, info.id, False)
    assert house.lend(token, "ana").secret == {"api_key": KEY}
    actions = [entry.event.action for entry in house.papita.audit.entries(ana).items]
    assert actions.count("credential.blocked") == actions.count("credential.unblocked") == 1


@both_engines
def test_pages_of_everybodys_credentials_hold_each_once(house: House):
    ada = house.sign_in("ada", "administrator")
    made = [house.key(house.sign_in(name)).id for name in ("ana", "ben", "eve")]
    first = house.papita.credentials.everyones(ada, limit=2)
    rest = house.papita.credentials.everyones(ada, cursor=first.next_cursor)
    assert [item.id for item in (*first.items, *rest.items)] == made
    assert rest.next_cursor is None
    for cursor in ("x", "\0", "0" * 36):
        with pytest.raises(InvalidInput):
            house.papita.credentials.everyones(ada, cursor=cursor)


def test_only_an_administrator_sees_and_blocks_what_is_not_its_own(house: House):
    ana, ada = house.sign_in("ana"), house.sign_in("ada", "administrator")
    info = house.key(ana)
    uses: list[Callable[[], object]] = [
        lambda: house.papita.credentials.everyones(ana),
        lambda: house.papita.credentials.set_blocked(ana, info.id, True),
    ]
    for use in uses:
        with pytest.raises(Forbidden):
            use()
    for wrong in ("nothing", "\0", "0" * 36):
        with pytest.raises(CredentialNotFound):
            house.papita.credentials.set_blocked(ada, wrong, True)
