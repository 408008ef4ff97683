"""Which account a verified identity leads to, and which role it has there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from papita_core.actors import Actor
from papita_core.errors import (
    Conflict,
    Forbidden,
    NotFound,
    ReauthenticationRequired,
    VaultSealed,
)
from papita_core.users.oidc.accounts import Person
from papita_core.users.oidc.errors import Refused
from papita_core.users.oidc.service import Done
from papita_core.users.passwords import MIN_LENGTH
from papita_core.users.service import User
from tests.identity_providers import table
from tests.papita_core.house import House, at_once, both_engines
from tests.papita_core.users.oidc.conftest import Door

ROLES = {"admins": "administrator", "staff": "member", "visitors": "guest"}


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(Refused) as caught:
        call()
    return caught.value.reason


def came(door: Door, **claims: Any) -> User:
    user = door.sign_in(**claims).user
    assert user is not None
    return user


def actions(house: House) -> list[str]:
    found = house.papita.audit.entries(Actor.operator()).items
    return [entry.event.action for entry in found][::-1]


def by_email(house: House, policy: str = "yes") -> None:
    house.papita.policies.put(Actor.operator(), "link-by-email", policy)


def with_email(house: House, name: str, email: str, *, verified: bool, **more: Any) -> str:
    user_id = house.user(name, **more)
    house.sql(
        "UPDATE users SET email = :email, email_key = :email, email_verified_at = :at"
        " WHERE id = :id",
        email=email,
        at=_text(house, datetime.now(UTC)) if verified else None,
        id=user_id,
    )
    return user_id


def _text(house: House, moment: datetime) -> Any:
    sqlite = house.papita.database.is_sqlite
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f") if sqlite else moment


@both_engines
def test_a_new_person_gets_an_account_and_the_next_time_the_same_one(door: Door):
    first = came(door)
    assert (first.username, first.display_name, first.email, first.role) == (
        "one",
        "One of Corp",
        "one@corp.example",
        "member",
    )
    assert came(door, preferred_username="renamed", email="new@corp.example").id == first.id
    assert actions(door.house) == ["user.created", "identity.linked"]
    (row,) = door.house.sql("SELECT password_hash, email_verified_at FROM users")
    assert row[0] == ""
    assert row[1] is not None


def test_nobody_signs_in_with_the_password_that_is_not_there(door: Door):
    came(door)
    for password in ("", "x" * MIN_LENGTH):
        with pytest.raises(Exception, match="not right"):
            door.house.papita.sign_in.authenticate("one", password)


def test_strangers_get_no_account_where_the_table_does_not_say_so(door: Door):
    door.configure(door.provider.table())
    assert refused(door.sign_in) == "no-account"
    assert door.house.papita.users.count() == 0
    assert actions(door.house) == ["sign-in.failed"]


@both_engines
def test_who_signs_up_for_approval_waits_for_it(door: Door):
    door.configure(door.provider.table(sign_up="approval"))
    assert refused(door.sign_in) == "approval"
    assert refused(door.sign_in) == "approval"
    assert door.house.papita.users.count() == 1
    door.house.papita.users.approve(Actor.operator(), "one")
    assert came(door).username == "one"


@both_engines
def test_two_callbacks_at_once_make_one_account(door: Door):
    browsers = [Door(door.house, door.provider) for _ in range(6)]
    answers = [door.provider.answer(browser.begin()) for browser in browsers]
    calls = [
        lambda browser=browser, answer=answer: browser.finish(**answer)
        for browser, answer in zip(browsers, answers, strict=True)
    ]
    results = at_once(calls)
    users = {result.user.id for result in results if isinstance(result, Done) and result.user}
    assert len(users) == 1, results
    assert all(isinstance(result, Done) for result in results)
    assert door.house.papita.users.count() == 1


@both_engines
def test_one_answer_twice_at_once_signs_in_once(door: Door):
    answer = door.provider.answer(door.begin())
    results = at_once([lambda: door.finish(**answer)] * 6)
    assert sum(isinstance(result, Done) for result in results) == 1
    assert {getattr(result, "reason", "stale") for result in results} == {"stale"}


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"preferred_username": "Ana.Lópéz"}, "ana.lopez"),
        ({"preferred_username": "ana@corp.example"}, "ana"),
        ({"preferred_username": None, "email": "bea@corp.example"}, "bea"),
        ({"preferred_username": "日本", "email": "c@corp.example"}, "c"),
        ({"preferred_username": "..", "email": None, "name": "Dora B"}, "dora-b"),
        ({"preferred_username": "<b>", "email": None}, "b"),
        ({"preferred_username": "日", "email": None, "name": "本"}, "user"),
        ({"preferred_username": "x" * 200, "email": None}, "x" * 24),
        ({"preferred_username": "a\nb", "email": None}, "a-b"),
        ({"preferred_username": 5, "email": None, "name": ["x"]}, "user"),
    ],
    ids=str,
)
def test_names_are_made_of_what_there_is(lasting: Door, claims: dict[str, Any], name: str):
    user = came(lasting, sub=f"named {name}", **{"email": None, **claims})
    assert user.username == name


def test_a_name_that_is_taken_gets_a_number(door: Door):
    assert came(door, sub="1", email=None).username == "one"
    assert came(door, sub="2").username == "one-2"
    assert came(door, sub="3").username == "one-3"


def test_an_email_that_nobody_has_verified_is_not_the_accounts(door: Door):
    assert came(door, email_verified=False).email is None
    (row,) = door.house.sql("SELECT email FROM oidc_identities")
    assert row[0] == "one@corp.example"


@pytest.mark.parametrize(
    ("trusted", "said", "counts"),
    [
        (None, True, True),
        (None, "true", True),
        (None, False, False),
        (None, None, False),
        (None, 1, False),
        (True, None, True),
        (True, False, False),
        (False, True, False),
    ],
)
def test_when_an_email_counts_as_verified(
    lasting: Door, trusted: bool | None, said: Any, counts: bool
):
    provider = lasting.house.papita.oidc.providers["corp"]
    provider = provider.model_copy(update={"trusted_email": trusted})
    claims = {"sub": "1", "email": "one@corp.example", "email_verified": said}
    person = Person.of(provider, {name: one for name, one in claims.items() if one is not None})
    assert person.email_verified is counts


# --- linking by e-mail ---


@both_engines
def test_an_account_is_found_by_email_only_if_all_three_say_so(door: Door):
    ana = with_email(door.house, "ana", "one@corp.example", verified=True)
    assert refused(door.sign_in) == "email-taken"
    by_email(door.house)
    assert came(door).id == ana
    assert "identity.linked" in actions(door.house)
    by_email(door.house, "no")
    assert came(door, email="other@corp.example").id == ana


def test_an_email_that_the_provider_did_not_verify_leads_nowhere(door: Door):
    """Else whoever can type an e-mail at the provider is whoever has it here."""
    ana = with_email(door.house, "ana", "one@corp.example", verified=True)
    by_email(door.house)
    for said in (False, None, "yes"):
        user = came(door, sub=f"stranger {said}", email_verified=said)
        assert user.id != ana
        assert user.email is None


def test_an_email_that_was_only_typed_here_leads_nowhere(door: Door):
    """Else whoever types somebody's e-mail here first gets what they do here later."""
    with_email(door.house, "mallory", "one@corp.example", verified=False)
    by_email(door.house)
    assert refused(door.sign_in) == "email-taken"


def test_capital_letters_make_no_other_email(door: Door):
    ana = with_email(door.house, "ana", "one@corp.example", verified=True)
    by_email(door.house)
    assert came(door, email="ONE@Corp.Example").id == ana


def test_a_disabled_account_is_not_found_and_not_entered(door: Door):
    by_email(door.house)
    with_email(door.house, "ana", "one@corp.example", verified=True)
    door.house.papita.users.set_disabled(Actor.operator(), "ana", True)
    assert refused(door.sign_in) == "email-taken"
    user = came(door, sub="2", email="two@corp.example")
    door.house.papita.users.set_disabled(Actor.operator(), user.username, True)
    assert refused(lambda: door.sign_in(sub="2")) == "disabled"


# --- roles ---


def with_roles(door: Door, **more: Any) -> None:
    scopes = ["openid", "profile", "email", "groups"]
    door.configure(
        door.provider.table(sign_up=True, groups_claim="groups", roles=ROLES, scopes=scopes, **more)
    )


@both_engines
def test_groups_give_a_role_at_each_sign_in(door: Door):
    with_roles(door)
    door.house.user("root", "administrator")
    assert came(door, groups=["staff", "visitors"]).role == "member"
    assert came(door, groups=["staff", "admins"]).role == "administrator"
    assert came(door, groups=["visitors"]).role == "guest"
    assert came(door, groups=[]).role == "member"
    changes = [
        entry.event.details
        for entry in door.house.papita.audit.entries(Actor.operator()).items
        if entry.event.action == "user.role-changed"
    ]
    assert [(change["before"], change["role"]) for change in changes[::-1]] == [
        ("member", "administrator"),
        ("administrator", "guest"),
        ("guest", "member"),
    ]


def test_without_a_table_of_roles_nothing_is_changed(door: Door):
    user = came(door, groups=["admins"])
    assert user.role == "member"
    door.house.sql("UPDATE users SET role = 'guest'")
    assert came(door, groups=["admins"]).role == "guest"


def test_groups_may_be_told_by_userinfo_alone_and_lie_within_another_claim(door: Door):
    door.configure(
        door.provider.table(sign_up=True, groups_claim="realm_access.roles", roles=ROLES)
    )
    door.provider.userinfo = {"realm_access": {"roles": ["admins"]}}
    assert came(door).role == "administrator"
    assert door.provider.asked["/me"] == 1


@both_engines
def test_the_last_administrator_stays_one(door: Door):
    with_roles(door)
    first = came(door, groups=["admins"])
    assert came(door, groups=["visitors"]).role == "administrator"
    assert came(door, sub="2", email="two@corp.example", groups=["admins"]).id != first.id
    # Now there are two, and one may go; the other stays again.
    assert came(door, sub="one", email="one@corp.example", groups=["visitors"]).role == "guest"
    assert came(door, sub="2", groups=["visitors"]).role == "administrator"


@both_engines
def test_of_two_administrators_who_lose_their_role_at_once_one_keeps_it(door: Door):
    with_roles(door)
    for sub in ("1", "2"):
        came(door, sub=sub, email=None, groups=["admins"])
    browsers = [Door(door.house, door.provider) for _ in range(2)]
    answers = [door.provider.answer(browser.begin()) for browser in browsers]
    calls = []
    for sub, browser, answer in zip(("1", "2"), browsers, answers, strict=True):
        door.provider.codes[answer["code"]]["sub"] = sub

        def call(browser: Door = browser, answer: dict[str, str] = answer) -> Done:
            return browser.finish(**answer)

        calls.append(call)
    honest = door.provider.sign
    door.provider.sign = lambda header, claims: honest(
        header, {**claims, "groups": ["visitors"], "sub": _sub_of(door, claims)}
    )
    at_once(calls)
    roles = sorted(row[0] for row in door.house.sql("SELECT role FROM users"))
    assert roles == ["administrator", "guest"]


def _sub_of(door: Door, claims: dict[str, Any]) -> str:
    asked = next(form for form in door.provider.traded if form["nonce"] == claims["nonce"])
    return asked["sub"]


def test_who_has_none_of_the_groups_stays_out_where_the_table_says_so(door: Door):
    with_roles(door, role_default="none")
    assert refused(lambda: door.sign_in(groups=["x"])) == "no-role"
    assert door.house.papita.users.count() == 0
    came(door, groups=["staff"])
    assert refused(lambda: door.sign_in(groups=["x"])) == "no-role"
    assert refused(lambda: door.sign_in(groups=None)) == "no-role"


# --- a sealed vault ---


def test_with_a_sealed_vault_known_people_get_in_and_nothing_is_changed(door: Door):
    with_roles(door)
    door.house.user("root", "administrator")
    user = came(door, groups=["staff"])
    sealed = Door(door.house, door.provider)
    (door.house.folder / "keys" / "master.key").unlink()
    door.house._papita = door.house.opened()
    assert came(sealed, groups=["admins"]).role == "member"
    assert came(sealed, groups=["admins"]).id == user.id
    with pytest.raises(VaultSealed):
        sealed.sign_in(sub="new", email="new@corp.example")
    assert door.house.papita.users.count() == 2


# --- linking, unlinking and proving by somebody who is here ---


@both_engines
def test_a_user_links_an_identity_and_comes_by_it_from_then_on(door: Door):
    door.configure(door.provider.table())
    ana = door.house.user("ana")
    session = door.here(ana)
    done = door.finish(**door.provider.answer(door.begin(purpose="link")))
    assert done.user is None
    actor = Actor.for_session(session)
    (identity,) = door.house.papita.oidc.identities(actor)
    assert (identity.provider, identity.email) == ("corp", "one@corp.example")
    stranger = Door(door.house, door.provider)
    assert came(stranger).id == ana
    door.house.papita.oidc.unlink(actor, identity.id)
    assert refused(stranger.sign_in) == "no-account"
    assert actions(door.house)[-3:] == ["identity.linked", "identity.unlinked", "sign-in.failed"]


def test_linking_takes_a_session_and_a_proof(door: Door):
    with pytest.raises(Forbidden):
        door.begin(purpose="link")
    door.here(door.house.user("ana"))
    door.house.clock.forward(minutes=6)
    with pytest.raises(ReauthenticationRequired):
        door.begin(purpose="link")


@pytest.mark.parametrize("purpose", ["link", "proof"])
def test_linking_and_proving_end_in_the_session_that_began_them(door: Door, purpose: Any):
    came(door)
    door.here(door.house.user("ana"))
    answer = door.provider.answer(door.begin(purpose=purpose))
    door.here(door.house.user("bob"))
    assert refused(lambda: door.finish(**answer)) == "session-changed"
    door.here(door.house.papita.users.by_username("ana").id)
    answer = door.provider.answer(door.begin(purpose=purpose))
    door.session = None
    assert refused(lambda: door.finish(**answer)) == "session-changed"


def test_an_identity_of_somebody_else_is_not_linked(door: Door):
    came(door)
    door.here(door.house.user("ana"))
    answer = door.provider.answer(door.begin(purpose="link"))
    assert refused(lambda: door.finish(**answer)) == "linked-elsewhere"


@both_engines
def test_the_only_way_in_cannot_be_taken_away(door: Door):
    user = came(door)
    actor = Actor.for_session(door.here(user.id))
    (identity,) = door.house.papita.oidc.identities(actor)
    with pytest.raises(Conflict, match="only way in"):
        door.house.papita.oidc.unlink(actor, identity.id)
    door.finish(**door.provider.answer(door.begin(purpose="link"), sub="another"))
    door.house.papita.oidc.unlink(actor, identity.id)
    (left,) = door.house.papita.oidc.identities(actor)
    with pytest.raises(Conflict, match="only way in"):
        door.house.papita.oidc.unlink(actor, left.id)


@both_engines
def test_two_ways_in_are_not_taken_away_at_once(door: Door):
    user = came(door)
    actor = Actor.for_session(door.here(user.id))
    door.finish(**door.provider.answer(door.begin(purpose="link"), sub="another"))
    both = door.house.papita.oidc.identities(actor)
    results = at_once(
        [lambda one=one: door.house.papita.oidc.unlink(actor, one.id) for one in both]
    )
    assert sorted(type(result).__name__ for result in results) == ["Conflict", "NoneType"]
    assert len(door.house.papita.oidc.identities(actor)) == 1


def test_unlinking_ends_what_began_there_and_nobody_unlinks_for_others(door: Door):
    ana = door.house.user("ana")
    actor = Actor.for_session(door.here(ana))
    done = door.finish(**door.provider.answer(door.begin(purpose="link")))
    papita = door.house.papita
    elsewhere = papita.sessions.start(ana, method="oidc", provider=done.session).session
    (identity,) = papita.oidc.identities(actor)
    bob = Actor.for_session(door.here(door.house.user("bob")))
    with pytest.raises(NotFound):
        papita.oidc.unlink(bob, identity.id)
    papita.oidc.unlink(actor, identity.id)
    assert papita.sessions.by_id(elsewhere.id) is None
    assert papita.sessions.by_id(str(actor.session_id)) is not None


def test_unlinking_takes_a_proof(door: Door):
    actor = Actor.for_session(door.here(came(door).id))
    door.house.clock.forward(minutes=6)
    with pytest.raises(ReauthenticationRequired):
        door.house.papita.oidc.unlink(actor, "x")


def test_proving_at_the_provider_takes_the_same_person_and_a_fresh_sign_in(door: Door):
    user = came(door)
    door.here(user.id)
    url = door.begin(purpose="proof")
    assert "prompt=login" in url
    assert "max_age=0" in url
    now = int(datetime.now(UTC).timestamp())
    assert door.finish(**door.provider.answer(url, auth_time=now)).user is None
    for auth_time in (None, now - 600, True):
        answer = door.provider.answer(door.begin(purpose="proof"), auth_time=auth_time)
        assert refused(lambda a=answer: door.finish(**a)) == "too-old"
    answer = door.provider.answer(door.begin(purpose="proof"), auth_time=now, sub="two")
    assert refused(lambda: door.finish(**answer)) == "other-person"


# --- logging out there as well ---


def test_log_out_leads_to_the_provider_where_its_table_says_so(door: Door):
    door.configure(door.provider.table(logout_at_provider=True))
    oidc, issuer = door.house.papita.oidc, door.provider.issuer
    door.provider.document["end_session_endpoint"] = f"{issuer}/end?realm=1"
    address = oidc.logout_address(issuer)
    assert address is not None
    assert address.startswith(f"{issuer}/end?realm=1&client_id=papita&post_logout_redirect_uri=")
    assert oidc.logout_address(None) is None
    assert oidc.logout_address("https://elsewhere.example") is None


def test_log_out_stays_here_where_it_does_not_say_so_or_the_provider_is_down(door: Door):
    assert door.house.papita.oidc.logout_address(door.provider.issuer) is None
    door.configure(table("corp", "http://127.0.0.1:9", logout_at_provider=True))
    down = door.house.opened().oidc
    assert down.logout_address("http://127.0.0.1:9") is None
