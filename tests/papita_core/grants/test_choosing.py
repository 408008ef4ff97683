"""Which credential a project gets: the rule by its cases, and lender and explanation alike."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from papita_core.credential_types import CREDENTIAL_TYPES, types_for
from papita_core.db import Base
from papita_core.errors import (
    CredentialDisabled,
    CredentialExpired,
    CredentialNotFound,
    PapitaError,
)
from papita_core.grants.choosing import (
    ALL_PROJECTS,
    PROJECT,
    SHARED,
    Candidate,
    Choice,
    Need,
    choose,
)
from papita_core.users.models import UserRow
from papita_core.vault.models import Credential, CredentialShare
from papita_core.vault.service import NewCredential
from tests.papita_core.house import KEY, House, both_engines

NOW = datetime(2030, 1, 1, tzinfo=UTC)
ME, TEAM, OTHER = "me", "team", "other"
NEED = Need(ME, "al-chat", "openai")
PAST, FUTURE = NOW - timedelta(days=1), NOW + timedelta(days=1)
OTHER_TYPE = types_for("openai")[1].id


def one(name: str, **more: Any) -> Candidate:
    """An own, live credential for all projects, unless `more` says otherwise."""
    values: dict[str, Any] = {
        "id": name,
        "owner_id": ME,
        "credential_type": "openai",
        "project_id": None,
        "expires_at": None,
        "updated_at": NOW,
    }
    return Candidate(**{**values, **more})


BOUND: dict[str, Any] = {"project_id": "al-chat"}
ELSEWHERE: dict[str, Any] = {"project_id": "ai-resume"}
OF_TEAM: dict[str, Any] = {"owner_id": TEAM}
LATE: dict[str, Any] = {"expires_at": PAST}
NEWER: dict[str, Any] = {"updated_at": NOW + timedelta(hours=1)}
OF_OTHER_TYPE: dict[str, Any] = {"credential_type": OTHER_TYPE}
OFF: dict[str, Any] = {"disabled": True}
BLOCKED: dict[str, Any] = {"blocked": True}

# What there is, in any order, and what comes of it: a credential and the reason, or an error.
CASES: dict[str, tuple[Sequence[Candidate], tuple[str, str] | type[PapitaError]]] = {
    "nothing": ([], CredentialNotFound),
    "one for all projects": ([one("a")], ("a", ALL_PROJECTS)),
    "one for the project": ([one("a", **BOUND)], ("a", PROJECT)),
    "one for another project": ([one("a", **ELSEWHERE)], CredentialNotFound),
    "of another protocol": ([one("a", credential_type="generic")], CredentialNotFound),
    "of no known type": ([one("a", credential_type="gone")], CredentialNotFound),
    "the project's own first": ([one("a", **NEWER), one("b", **BOUND)], ("b", PROJECT)),
    "the newer one first": ([one("a"), one("b", **NEWER)], ("b", ALL_PROJECTS)),
    "of two as new, always the same": ([one("a"), one("b")], ("b", ALL_PROJECTS)),
    "own before shared": ([one("a"), one("b", **OF_TEAM, **BOUND, **NEWER)], ("a", ALL_PROJECTS)),
    "shared": ([one("a", **OF_TEAM)], ("a", SHARED)),
    "shared, for the project first": (
        [one("a", **OF_TEAM, **NEWER), one("b", owner_id=OTHER, **BOUND)],
        ("b", SHARED),
    ),
    "shared, for another project": ([one("a", **OF_TEAM, **ELSEWHERE)], CredentialNotFound),
    "shared by a disabled user": (
        [one("a", **OF_TEAM, owner_disabled=True)],
        CredentialNotFound,
    ),
    "shared by a disabled user and another": (
        [one("a", **OF_TEAM, **NEWER, owner_disabled=True), one("b", owner_id=OTHER)],
        ("b", SHARED),
    ),
    "another type of the protocol": ([one("a", **OF_OTHER_TYPE)], ("a", ALL_PROJECTS)),
    "the type that was named first": (
        [one("a"), one("b", **OF_OTHER_TYPE, **NEWER)],
        ("a", ALL_PROJECTS),
    ),
    "for the project before the type": (
        [one("a"), one("b", **OF_OTHER_TYPE, **BOUND)],
        ("b", PROJECT),
    ),
    "own of another type before shared": (
        [one("a", **OF_OTHER_TYPE), one("b", **OF_TEAM)],
        ("a", ALL_PROJECTS),
    ),
    "disabled": ([one("a", **OFF)], CredentialDisabled),
    "blocked": ([one("a", **BLOCKED)], CredentialDisabled),
    "disabled and another": ([one("a", **OFF, **BOUND), one("b")], ("b", ALL_PROJECTS)),
    "blocked and another": ([one("a", **BLOCKED, **NEWER), one("b")], ("b", ALL_PROJECTS)),
    "disabled and shared": ([one("a", **OFF), one("b", **OF_TEAM)], ("b", SHARED)),
    "disabled for another project": ([one("a", **OFF, **ELSEWHERE)], CredentialNotFound),
    "shared and disabled": ([one("a", **OF_TEAM, **OFF)], CredentialDisabled),
    "shared and blocked": ([one("a", **OF_TEAM, **BLOCKED)], CredentialDisabled),
    "expired": ([one("a", **LATE)], CredentialExpired),
    "expiring now": ([one("a", expires_at=NOW)], CredentialExpired),
    "expiring tomorrow": ([one("a", expires_at=FUTURE)], ("a", ALL_PROJECTS)),
    "expired for the project, live for all": (
        [one("a", **LATE, **BOUND), one("b")],
        ("b", ALL_PROJECTS),
    ),
    "expired, and a shared one": ([one("a", **LATE), one("b", **OF_TEAM)], CredentialExpired),
    "expired for another project, and a shared one": (
        [one("a", **LATE, **ELSEWHERE), one("b", **OF_TEAM)],
        ("b", SHARED),
    ),
    "expired and disabled": ([one("a", **LATE), one("b", **OFF)], CredentialExpired),
    "expired while it is disabled, and a shared one": (
        [one("a", **LATE, **OFF), one("b", **OF_TEAM)],
        ("b", SHARED),
    ),
    "shared and expired": ([one("a", **OF_TEAM, **LATE)], CredentialExpired),
    "shared: expired and live": (
        [one("a", **OF_TEAM, **LATE, **BOUND), one("b", owner_id=OTHER)],
        ("b", SHARED),
    ),
    "disabled, and a shared one that has expired": (
        [one("a", **OFF), one("b", **OF_TEAM, **LATE)],
        CredentialDisabled,
    ),
    "shared: disabled and expired": (
        [one("a", **OF_TEAM, **OFF), one("b", owner_id=OTHER, **LATE)],
        CredentialExpired,
    ),
}


@pytest.mark.parametrize(("there", "wanted"), CASES.values(), ids=CASES.keys())
def test_the_rule(there: Sequence[Candidate], wanted: tuple[str, str] | type[PapitaError]):
    for candidates in itertools.permutations(there):
        found = choose(candidates, NEED, NOW)
        if isinstance(found, Choice):
            assert (found.candidate.id, found.reason) == wanted
        else:
            assert type(found) is wanted


def test_an_owner_who_is_disabled_does_not_count_for_the_owner_alone():
    # Whether the user may do anything at all is not the rule's question.
    found = choose([one("a", owner_disabled=True)], NEED, NOW)
    assert isinstance(found, Choice)


def test_a_refusal_says_what_to_do_and_who_can():
    said = {
        str(choose([candidate], NEED, NOW))
        for candidate in (
            one("a", **OFF),
            one("a", **BLOCKED),
            one("a", **LATE),
            one("a", **OF_TEAM, **OFF),
            one("a", **OF_TEAM, **LATE),
        )
    }
    assert len(said) == 5
    assert all("administrator" in text or "editor" in text for text in said)


def test_a_type_by_its_own_name_is_not_met_by_its_protocol():
    asked = replace(NEED, asked=OTHER_TYPE)
    assert isinstance(choose([one("a")], asked, NOW), CredentialNotFound)
    assert isinstance(choose([one("a", **OF_OTHER_TYPE)], asked, NOW), Choice)


# --- the lender and the explanation ---


@dataclass(frozen=True)
class Stored:
    """One credential as it may stand in the database; `owner` is 0 for the user who asks."""

    owner: int
    kind: str
    project_id: str | None
    shared: str
    disabled: bool
    blocked: bool
    hours: int | None
    changed: int


STORED = st.builds(
    Stored,
    owner=st.sampled_from([0, 0, 1, 2]),
    kind=st.sampled_from(["openai", OTHER_TYPE, "generic"]),
    project_id=st.sampled_from([None, "al-chat", "ai-resume"]),
    shared=st.sampled_from(["nobody", "named", "everybody"]),
    disabled=st.sampled_from([False, False, True]),
    blocked=st.sampled_from([False, False, False, True]),
    hours=st.sampled_from([None, None, -1, 1]),
    changed=st.integers(0, 3),
)


class Street:
    """One user who asks and two who share, whose credentials are put there anew each time."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.people = [house.sign_in(name, "administrator") for name in ("ana", "ben", "cleo")]
        self.token = house.project_token(self.people[0])

    def put(self, everything: Sequence[Stored], disabled: int | None) -> list[Candidate]:
        """Makes these the only credentials; `disabled` is who of those who share is disabled.

        What comes back is what the first user may use of them.
        """
        self.house.sql("DELETE FROM credentials")
        usable: list[Candidate] = []
        now = self.house.clock()
        for number, person in enumerate(self.people[1:], 1):
            off = now if number == disabled else None
            self._change(UserRow, person.user_id, disabled_at=off)
        for item in everything:
            owner, kind = self.people[item.owner], CREDENTIAL_TYPES[item.kind]
            new = NewCredential(
                item.kind,
                {"token": "x"} if kind.own_fields else {"api_key": KEY},
                base_url="https://ai.example/v1" if kind.takes_base_url else None,
            )
            made = self.house.papita.credentials.create(owner, new).id
            expires_at = None if item.hours is None else now + timedelta(hours=item.hours)
            updated_at = NOW + timedelta(hours=item.changed)
            self._change(
                Credential,
                made,
                project_id=item.project_id,
                disabled_at=now if item.disabled else None,
                blocked_at=now if item.blocked else None,
                expires_at=expires_at,
                updated_at=updated_at,
                shared_with_all=item.shared == "everybody",
            )
            if item.owner == 0 or item.shared != "nobody":
                usable.append(
                    Candidate(
                        *(made, owner.user_id, item.kind, item.project_id, expires_at, updated_at),
                        *(item.disabled, item.blocked, item.owner != 0 and item.owner == disabled),
                    )
                )
            if item.shared == "named" and item.owner:
                with self.house.papita.database.write() as session:
                    to = self.people[0].user_id
                    session.add(CredentialShare(credential_id=made, user_id=to, created_at=now))
        return usable

    def lent(self) -> str:
        """The id of what is lent, or the code of the refusal."""
        try:
            return self.house.lend(self.token, "ana").credential_id
        except PapitaError as error:
            return error.code

    def explained(self) -> str:
        which = self.house.papita.grants.which(self.people[0], "al-chat")
        assert (which.credential is None) == (which.reason is None) != (which.code is None)
        found = which.code if which.credential is None else which.credential.id
        assert found is not None
        return found

    def _change(self, table: type[Base], key: str, **values: Any) -> None:
        with self.house.papita.database.write() as session:
            session.execute(update(table).where(table.id == key).values(**values))  # type: ignore[attr-defined]


@both_engines
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(everything=st.lists(STORED, max_size=5), disabled=st.sampled_from([None, None, 1, 2]))
def test_the_lender_and_the_explanation_follow_the_rule(
    street: Street, everything: list[Stored], disabled: int | None
):
    usable = street.put(everything, disabled)
    need = Need(street.people[0].user_id, "al-chat", "openai")
    by_rule = choose(usable, need, street.house.clock())
    expected = by_rule.candidate.id if isinstance(by_rule, Choice) else by_rule.code
    assert street.lent() == street.explained() == expected


@pytest.fixture
def street(house: House) -> Street:
    return Street(house)
