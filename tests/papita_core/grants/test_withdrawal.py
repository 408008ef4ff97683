"""Every way in which a loan ends: an open lease lends no more, and who asks is told why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from papita_core.actors import Actor
from papita_core.errors import (
    ConsentRequired,
    CredentialDisabled,
    CredentialExpired,
    CredentialNotFound,
    PapitaError,
    ProjectDisabled,
    Unauthenticated,
)
from papita_core.grants.service import MAX_CHECKED, Ended
from papita_core.vault.service import ReplaceCredential
from tests.papita_core.house import House, both_engines

OPERATOR = Actor.operator()
MISSING = "00000000-0000-4000-8000-000000000000"


@dataclass
class Open:
    """A lease of Ana's on which Ada's shared credential was lent just now."""

    house: House
    ana: Actor
    ada: Actor
    token: str
    lease_id: str
    credential_id: str

    def lend(self) -> str:
        return self.house.lend(self.token, "ana").credential_id

    def check(self, credential_id: str | None = None, project_id: str = "al-chat") -> list[str]:
        """The codes of what has ended."""
        loans = [(self.lease_id, credential_id or self.credential_id)]
        return [item.code for item in self.house.papita.grants.check(project_id, loans)]


def open_lease(house: House, *, by_token: bool = False) -> Open:
    ana, ada = house.sign_in("ana"), house.sign_in("ada", "administrator")
    info = house.key(ada)
    house.papita.credentials.share(ada, info.id, everybody=False, usernames=["ana"], etag="*")
    actor = ana
    if by_token:
        found = house.papita.access_tokens.actor(house.access_token("ana"))
        assert found is not None
        actor = found
    house.papita.grants.allow(ana, "al-chat")
    user_token = house.papita.projects.user_token(actor, "al-chat").token
    made = house.papita.grants.exchange("al-chat", user_token, "openai")
    return Open(
        house, actor, ada, made.token, made.lease_id, house.lend(made.token, "ana").credential_id
    )


def revoke(it: Open) -> None:
    it.house.papita.grants.revoke(it.ana, "al-chat")


def end_session(it: Open) -> None:
    it.house.papita.sessions.end(it.ana.session_id or "")


def end_others(it: Open) -> None:
    it.house.papita.sessions.end_others(it.ana.user_id, "another one")


def reset_password(it: Open) -> None:
    it.house.papita.users.reset_password(OPERATOR, "ana", "another long one")


def disable_user(it: Open) -> None:
    it.house.papita.users.set_disabled(OPERATOR, "ana", True)


def switch_off(it: Open) -> None:
    it.house.papita.projects.set_disabled(it.ada, "al-chat", True)


def block(it: Open) -> None:
    it.house.papita.credentials.set_blocked(OPERATOR, it.credential_id, True)


def disable_credential(it: Open) -> None:
    it.house.papita.credentials.set_disabled(it.ada, it.credential_id, True, etag="*")


def delete(it: Open) -> None:
    it.house.papita.credentials.delete(it.ada, it.credential_id, etag="*")


def unshare(it: Open) -> None:
    it.house.papita.credentials.share(
        it.ada, it.credential_id, everybody=False, usernames=[], etag="*"
    )


def disable_owner(it: Open) -> None:
    it.house.sign_in("eve", "administrator")
    it.house.papita.users.set_disabled(OPERATOR, "ada", True)


def bind_elsewhere(it: Open) -> None:
    new = ReplaceCredential(project_id="ai-resume")
    it.house.papita.credentials.replace(it.ada, it.credential_id, new, etag="*")


def expire(it: Open) -> None:
    it.house.sql("UPDATE credentials SET expires_at = '2001-01-01 00:00:00.000000+00:00'")


# What lending says, and what a project is told that asks while it is writing an answer.
WAYS: dict[Callable[[Open], None], tuple[type[PapitaError], str]] = {
    revoke: (ConsentRequired, "consent-required"),
    end_session: (Unauthenticated, "session-ended"),
    end_others: (Unauthenticated, "session-ended"),
    reset_password: (Unauthenticated, "session-ended"),
    disable_user: (Unauthenticated, "user-disabled"),
    switch_off: (ProjectDisabled, "project-disabled"),
    block: (CredentialDisabled, "credential-disabled"),
    disable_credential: (CredentialDisabled, "credential-disabled"),
    delete: (CredentialNotFound, "credential-not-found"),
    unshare: (CredentialNotFound, "credential-not-found"),
    disable_owner: (CredentialNotFound, "credential-not-found"),
    bind_elsewhere: (CredentialNotFound, "credential-not-found"),
    expire: (CredentialExpired, "credential-expired"),
}


@both_engines
@pytest.mark.parametrize("way", WAYS)
def test_an_open_lease_lends_no_more(house: House, way: Callable[[Open], None]):
    it = open_lease(house)
    assert it.lend() == it.credential_id
    assert it.check() == []
    way(it)
    error, code = WAYS[way]
    with pytest.raises(PapitaError) as caught:
        it.lend()
    assert type(caught.value) is error
    assert it.check() == [code]
    (ended,) = house.papita.grants.check("al-chat", [(it.lease_id, it.credential_id)])
    assert ended == Ended(it.lease_id, it.credential_id, code, ended.detail)
    assert ended.detail.endswith(".")
    assert len(ended.detail) > 20


def revoke_token(it: Open) -> None:
    it.house.papita.access_tokens.revoke(OPERATOR, it.ana.token_id or "")


def expire_token(it: Open) -> None:
    it.house.sql("UPDATE access_tokens SET expires_at = '2001-01-01 00:00:00.000000'")


@pytest.mark.parametrize(
    ("way", "code"),
    [
        (revoke_token, "consent-required"),
        (expire_token, "session-ended"),
        (disable_user, "user-disabled"),
        (revoke, "consent-required"),
        (switch_off, "project-disabled"),
    ],
)
def test_a_lease_of_an_access_token_lends_no_more(
    house: House, way: Callable[[Open], None], code: str
):
    it = open_lease(house, by_token=True)
    assert it.check() == []
    way(it)
    with pytest.raises((Unauthenticated, ProjectDisabled)):
        it.lend()
    assert it.check() == [code]


@both_engines
def test_that_five_minutes_are_over_ends_no_answer(house: House):
    it = open_lease(house)
    house.clock.forward(minutes=10)
    with pytest.raises(Unauthenticated):
        it.lend()
    assert it.check() == []
    revoke(it)
    assert it.check() == ["consent-required"]


def test_a_key_that_is_deleted_after_the_sign_out_is_named_all_the_same(house: House):
    it = open_lease(house)
    end_session(it)
    assert it.check() == ["session-ended"]
    delete(it)
    assert it.check() == ["credential-not-found"]


def test_another_key_that_would_be_lent_now_ends_no_answer(house: House):
    it = open_lease(house)
    house.key(house.papita.access_tokens.actor(house.access_token("ana")) or it.ana)
    assert it.lend() != it.credential_id
    assert it.check() == []


def test_what_is_not_there_and_what_is_not_the_projects_have_ended_alike(house: House):
    it = open_lease(house)
    assert it.check(project_id="ai-resume") == ["session-ended"]
    assert it.check(MISSING) == ["credential-not-found"]
    foreign = house.key(house.sign_in("ben")).id
    assert it.check(foreign) == ["credential-not-found"]
    check = house.papita.grants.check
    alien = check("ai-resume", [(it.lease_id, it.credential_id)])[0]
    absent = check("al-chat", [(MISSING, it.credential_id)])[0]
    assert (alien.code, alien.detail) == (absent.code, absent.detail)


def test_many_are_asked_about_at_once_and_those_that_ended_come_back(house: House):
    it = open_lease(house)
    loans = [(it.lease_id, it.credential_id), (MISSING, it.credential_id)] * (MAX_CHECKED // 2)
    assert len(house.papita.grants.check("al-chat", loans)) == MAX_CHECKED // 2
    assert house.papita.grants.check("al-chat", []) == []
    with pytest.raises(ValueError, match="too many"):
        house.papita.grants.check("al-chat", [*loans, loans[0]])
