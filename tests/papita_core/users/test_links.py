"""Invitations and links for a new password: shown once, serving once, and to be taken back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import cache

import pytest

from papita_core.actors import Actor
from papita_core.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    InvalidInput,
    LinkRefused,
    NotFound,
    ReauthenticationRequired,
    SignInRefused,
)
from papita_core.users.links import NewLink
from papita_core.users.passwords import hash_password
from papita_core.users.service import User
from tests.papita_core.house import PASSWORD, House, at_once, both_engines

OPERATOR = Actor.operator()
NEW = "another long one"
hashed = cache(hash_password)


@pytest.fixture(autouse=True)
def _hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password is hashed once, since that takes a tenth of a second on purpose."""
    for module in ("service", "links"):
        monkeypatch.setattr(f"papita_core.users.{module}.hash_password", hashed)


def invite(house: House, **how: object) -> NewLink:
    return house.papita.links.invite(OPERATOR, **how)  # type: ignore[arg-type]


def accept(house: House, token: str, name: str = "ben", **more: str) -> User:
    return house.papita.links.accept(token, username=name, password=PASSWORD, **more)


def why(call: Callable[[], object]) -> str:
    with pytest.raises(LinkRefused) as refused:
        call()
    return refused.value.reason


# --- invitations ---


@both_engines
def test_an_invitation_makes_one_account(house: House):
    links = house.papita.links
    made = invite(house, role="administrator", email="Ben@example.org", note="for Ben")
    assert made.url == f"http://localhost:3000/?invite={made.token}"
    (pending,) = links.invitations(OPERATOR)
    assert (pending.role, pending.email, pending.note) == (
        "administrator",
        "Ben@example.org",
        "for Ben",
    )
    assert links.invitation(made.token).role == "administrator"
    user = accept(house, made.token, display_name="Ben", email="ben@EXAMPLE.org")
    assert (user.username, user.role, user.email) == ("ben", "administrator", "ben@EXAMPLE.org")
    assert house.sql("SELECT email_verified_at IS NOT NULL FROM users") in ([(1,)], [(True,)])
    assert links.invitations(OPERATOR) == []
    assert why(lambda: accept(house, made.token, "eve")) == "used"
    assert why(lambda: links.invitation(made.token)) == "used"
    assert house.papita.users.count() == 1


def test_an_e_mail_that_its_user_typed_is_not_vouched_for(house: House):
    accept(house, invite(house).token, email="boss@example.org")
    accept(house, invite(house, email="eve@example.org").token, "eve", email="me@example.org")
    assert house.sql("SELECT email_verified_at FROM users") == [(None,), (None,)]


@both_engines
def test_of_eight_that_use_an_invitation_at_once_one_wins(house: House):
    token = invite(house).token
    outcomes = at_once([lambda n=n: accept(house, token, f"user{n}") for n in range(8)])
    assert sum(isinstance(outcome, User) for outcome in outcomes) == 1
    refused = [outcome for outcome in outcomes if isinstance(outcome, LinkRefused)]
    assert [error.reason for error in refused] == ["used"] * 7
    assert house.papita.users.count() == 1
    assert house.papita.audit.verify() == []


def test_what_is_not_accepted_leaves_the_invitation_as_it_is(house: House):
    token = invite(house).token
    house.user("taken")
    with pytest.raises(InvalidInput):
        house.papita.links.accept(token, username="ben", password="short")
    with pytest.raises(AlreadyExists):
        accept(house, token, "taken")
    accept(house, token)


@pytest.mark.parametrize(
    ("lasts", "accepted"),
    [
        (timedelta(minutes=59), False),
        (timedelta(hours=1), True),
        (timedelta(days=30), True),
        (timedelta(days=30, seconds=1), False),
    ],
)
def test_how_long_an_invitation_may_last(house: House, lasts: timedelta, accepted: bool):
    if not accepted:
        with pytest.raises(InvalidInput):
            invite(house, lasts=lasts)
        return
    token = invite(house, lasts=lasts).token
    house.clock.forward(seconds=lasts.total_seconds() - 60)
    assert house.papita.links.invitation(token)
    house.clock.forward(seconds=60)
    assert why(lambda: accept(house, token)) == "expired"
    assert house.papita.links.invitations(OPERATOR) == []


def test_an_invitation_lasts_a_week_unless_somebody_says_otherwise(house: House):
    made = invite(house)
    assert made.expires_at - house.clock() == pytest.approx(
        timedelta(days=7), abs=timedelta(minutes=1)
    )


@pytest.mark.parametrize(
    "how", [{"role": "owner"}, {"email": "nobody"}, {"note": "x" * 201}, {"note": "a\nb"}]
)
def test_an_invitation_that_is_none(house: House, how: dict[str, str]):
    with pytest.raises(InvalidInput):
        invite(house, **how)


@both_engines
def test_an_invitation_is_taken_back(house: House):
    made = invite(house)
    (pending,) = house.papita.links.invitations(OPERATOR)
    house.papita.links.revoke(OPERATOR, pending.id)
    assert why(lambda: accept(house, made.token)) == "revoked"
    with pytest.raises(NotFound):
        house.papita.links.revoke(OPERATOR, pending.id)
    with pytest.raises(NotFound):
        house.papita.links.revoke(OPERATOR, "nothing")


@pytest.mark.parametrize("way", ["disable", "lower", "delete"])
def test_links_end_with_the_rights_of_who_made_them(house: House, way: str):
    papita = house.papita
    house.user("root", "administrator")
    eve = house.sign_in("eve", "administrator")
    house.user("ben")
    invited = papita.links.invite(eve, role="administrator")
    reset = papita.links.reset_link(eve, "ben")
    {
        "disable": lambda: papita.users.set_disabled(OPERATOR, "eve", True),
        "lower": lambda: papita.users.set_role(OPERATOR, "eve", "member"),
        "delete": lambda: papita.account.delete(OPERATOR, eve.user_id),
    }[way]()
    assert why(lambda: accept(house, invited.token, "mole")) == "revoked"
    assert why(lambda: papita.links.set_password(reset.token, NEW)) == "revoked"
    assert papita.links.invitations(OPERATOR) == []


# --- a new password ---


@both_engines
def test_a_reset_link_sets_the_password_once_and_ends_all_sessions(house: House):
    links, ben = house.papita.links, house.sign_in("ben")
    house.sql("UPDATE users SET reset_asked_at = created_at")
    made = links.reset_link(OPERATOR, "ben")
    assert made.url == f"http://localhost:3000/?reset={made.token}"
    assert house.papita.users.listed(OPERATOR, "ben").reset_asked_at is None
    assert links.password_reset(made.token).username == "ben"
    assert house.papita.sign_in.authenticate("ben", PASSWORD)  # the old one serves until then
    assert links.set_password(made.token, NEW).username == "ben"
    assert house.papita.sessions.of_user(ben.user_id) == []
    assert house.papita.sign_in.authenticate("ben", NEW)
    with pytest.raises(SignInRefused):
        house.papita.sign_in.authenticate("ben", PASSWORD)
    assert why(lambda: links.set_password(made.token, "yet another one")) == "used"
    assert house.papita.sign_in.authenticate("ben", NEW)


@both_engines
def test_of_four_that_use_a_reset_link_at_once_one_wins(house: House):
    house.user("ben")
    token = house.papita.links.reset_link(OPERATOR, "ben").token
    passwords = [f"another long one {number}" for number in range(4)]
    outcomes = at_once([lambda p=p: house.papita.links.set_password(token, p) for p in passwords])
    (winner,) = [place for place, done in enumerate(outcomes) if isinstance(done, User)]
    assert sum(isinstance(outcome, LinkRefused) for outcome in outcomes) == 3
    assert house.papita.sign_in.authenticate("ben", passwords[winner])


@both_engines
def test_a_new_reset_link_takes_the_place_of_the_old_one(house: House):
    house.user("ben")
    house.user("ana")
    links = house.papita.links
    other = links.reset_link(OPERATOR, "ana")
    old, new = links.reset_link(OPERATOR, "ben"), links.reset_link(OPERATOR, "ben")
    assert why(lambda: links.set_password(old.token, NEW)) == "revoked"
    assert links.set_password(new.token, NEW).username == "ben"
    assert links.password_reset(other.token).username == "ana"


def test_a_reset_link_lives_for_a_day(house: House):
    house.user("ben")
    token = house.papita.links.reset_link(OPERATOR, "ben").token
    house.clock.forward(hours=23, minutes=59)
    assert house.papita.links.password_reset(token)
    house.clock.forward(minutes=1)
    assert why(lambda: house.papita.links.set_password(token, NEW)) == "expired"


def test_a_password_that_is_not_accepted_leaves_the_link_as_it_is(house: House):
    house.user("ben")
    token = house.papita.links.reset_link(OPERATOR, "ben").token
    with pytest.raises(InvalidInput):
        house.papita.links.set_password(token, "password12")
    house.papita.links.set_password(token, NEW)


def test_a_link_of_a_user_who_was_disabled_opens_nothing(house: House):
    house.user("ben")
    links = house.papita.links
    token = links.reset_link(OPERATOR, "ben").token
    house.papita.users.set_disabled(OPERATOR, "ben", True)
    assert why(lambda: links.set_password(token, NEW)) == "revoked"
    with pytest.raises(Conflict):
        links.reset_link(OPERATOR, "ben")
    house.papita.users.set_disabled(OPERATOR, "ben", False)
    assert why(lambda: links.set_password(token, NEW)) == "revoked"


def test_a_password_that_was_set_otherwise_ends_the_link(house: House):
    house.user("ben")
    token = house.papita.links.reset_link(OPERATOR, "ben").token
    house.papita.users.reset_password(OPERATOR, "ben", NEW)
    assert why(lambda: house.papita.links.set_password(token, "yet another one")) == "revoked"


def test_unknown_users_get_no_link(house: House):
    for name in ("nobody", "no\0body", ""):
        with pytest.raises(NotFound):
            house.papita.links.reset_link(OPERATOR, name)


# --- both ---


@pytest.mark.parametrize("token", ["", "nonsense", "\0", "ü" * 1000, "\ud800"])
def test_a_made_up_link_opens_nothing(house: House, token: str):
    links = house.papita.links
    assert why(lambda: links.invitation(token)) == "unknown"
    assert why(lambda: links.password_reset(token)) == "unknown"
    assert why(lambda: accept(house, token)) == "unknown"
    assert why(lambda: links.set_password(token, NEW)) == "unknown"


def test_a_link_of_one_kind_is_none_of_the_other(house: House):
    house.user("ben")
    invited, reset = invite(house), house.papita.links.reset_link(OPERATOR, "ben")
    assert why(lambda: house.papita.links.set_password(invited.token, NEW)) == "unknown"
    assert why(lambda: accept(house, reset.token, "eve")) == "unknown"


def test_the_database_and_the_log_know_no_token(house: House):
    house.user("ben")
    made = [invite(house), house.papita.links.reset_link(OPERATOR, "ben")]
    accept(house, made[0].token, "ana")
    house.papita.links.set_password(made[1].token, NEW)
    stored = repr(house.sql("SELECT * FROM one_time_links"))
    stored += repr(house.papita.audit.entries(OPERATOR).items) + repr(made)
    for link in made:
        assert link.token not in stored
        assert len(link.token) >= 43


def test_links_are_made_by_who_manages_users_and_has_just_proved_it(house: House):
    links = house.papita.links
    ada, eve = house.sign_in("ada", "administrator"), house.sign_in("eve")
    uses: list[Callable[[Actor], object]] = [
        lambda actor: links.invite(actor),
        lambda actor: links.reset_link(actor, "eve"),
        lambda actor: links.revoke(actor, "x"),
    ]
    for use in (*uses, lambda actor: links.invitations(actor)):
        with pytest.raises(Forbidden):
            use(eve)
    for use in uses:
        with pytest.raises(ReauthenticationRequired):
            use(replace(ada, proved_at=None))
    assert links.invitations(ada) == []
