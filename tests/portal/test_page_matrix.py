"""Every page against everybody who may ask for it, each opened first thing on a fresh process.

A process that has done nothing yet but import is forked for each of them, so that Streamlit is as
new to it as after a start. A page of `portal.navigation` that has no row here fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from papita_core.actors import Actor
from papita_core.users.service import NewUser
from portal import wiring
from portal.navigation import PAGES
from portal.wiring import ROOT, Services
from tests.portal.conftest import settings_for

PEOPLE = ("stranger", "guest", "member", "administrator", "restricted")
# Who sees a page; strangers see the door, restricted ones where second factors are set up, others
# that they may not.
ALL, MEMBERS, ADMINISTRATORS = (
    {"guest", "member", "administrator"},
    {"member", "administrator"},
    {"administrator"},
)
ROWS: dict[str, tuple[set[str], str]] = {
    "dashboard": (ALL, "Hello, "),
    "al-chat": (ALL, "New chat"),
    "shared": (ALL, "Shared chats"),
    "credentials": (MEMBERS, "Credentials"),
    "profile": (ALL, "Profile"),
    "connected-apps": (ALL, "Connected apps"),
    "access-tokens": (MEMBERS, "Access tokens"),
    "users": (ADMINISTRATORS, "Users"),
    "projects": (ADMINISTRATORS, "Projects"),
    "vault": (ADMINISTRATORS, "Vault"),
    "audit": (ADMINISTRATORS, "Audit log"),
}


class Fork:
    """The process that waits, and makes a fresh one for each page."""

    def __init__(self, folder: Path) -> None:
        with (folder / "errors.log").open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.portal.first_thing", str(folder)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"},
            )

    def opens(self, path: str, cookie: str) -> dict[str, list[str]]:
        """What a fresh process shows whoever has this cookie."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"path": path, "cookie": cookie}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the process has ended without an answer"
        found: dict[str, list[str]] = json.loads(line)
        return found

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(70)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fork, dict[str, str]]]:
    """The process, and the cookie of each of PEOPLE."""
    folder = tmp_path_factory.mktemp("matrix")
    services = wiring.make_services(settings_for(folder))
    papita = services.papita
    cookies = {"stranger": ""}
    for name in PEOPLE[1:]:
        # Everybody needs a second factor; the restricted one alone has shown none.
        with papita.database.write() as session:
            role = "member" if name == "restricted" else name
            user = papita.users.add(session, NewUser(name, "", role=role), "", actor_id="test")
        shown = None if name == "restricted" else "totp"
        ticket = papita.sessions.start(user.id, second_factor=shown).ticket
        cookies[name] = papita.sessions.redeem(ticket)[0]
    papita.policies.put(Actor.operator(), "second-factor", "everybody")
    services.close()
    fork = Fork(folder)
    try:
        yield fork, cookies
    finally:
        fork.close()


def test_every_page_has_a_row() -> None:
    assert [entry.name for entry in PAGES] == list(ROWS)


@pytest.mark.parametrize("person", PEOPLE)
@pytest.mark.parametrize("entry", PAGES, ids=lambda entry: entry.name)
def test_page(entry, person: str, town: tuple[Fork, dict[str, str]]) -> None:  # type: ignore[no-untyped-def]
    fork, cookies = town
    shown = fork.opens(entry.path, cookies[person])
    may, title = ROWS[entry.name]
    assert shown["exceptions"] == []
    if person == "stranger":
        assert shown["titles"] == ["Log in to Papita"]
        assert "Log out" not in shown["buttons"]
    elif person == "restricted":
        assert not any(one.startswith(title) for one in shown["titles"])
        assert "Log out" in shown["buttons"]
        assert not shown["pages"]
    elif person in may:
        assert any(one.startswith(title) for one in shown["titles"] + shown["subheaders"]), shown
        assert not any("may not open this page" in error for error in shown["errors"])
    else:
        assert shown["titles"] == []
        assert any("may not open this page" in error for error in shown["errors"])


def test_the_table_is_the_one_that_the_menu_and_the_pages_have(services: Services) -> None:
    from papita_core.actors import CAPABILITIES

    for entry in PAGES:
        may = {role for role in ALL if entry.capability in CAPABILITIES[role]}
        assert may == ROWS[entry.name][0], entry.name
