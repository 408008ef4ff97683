"""What the tests of this folder work with: a clock that moves, and a Papita with people in it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import pytest
from sqlalchemy import text
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from papita_core.actors import Actor
from papita_core.api.app import create_api
from papita_core.app import Papita, build
from papita_core.errors import ProjectUnavailable
from papita_core.grants.lending import Loan, LoanRequest
from papita_core.settings import Settings
from papita_core.users.passwords import hash_password
from papita_core.users.service import NewUser
from papita_core.vault.service import CredentialInfo, NewCredential

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "potatoes grow below"
KEY = "sk-demo-0123456789abcdef"
CLIENT_SECRET = "the client's own secret"

both_engines = pytest.mark.parametrize("engine", ["sqlite", "postgresql"], indirect=True)
T = TypeVar("T")


class MovableClock:
    """Real time, until it is moved."""

    def __init__(self) -> None:
        self._offset = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self._offset

    def forward(self, **by: float) -> None:
        self._offset += timedelta(**by)


@dataclass
class Runner:
    """A project runner whose projects run elsewhere; `reason` makes it fail."""

    reason: str | None = None

    def url(self, project_id: str) -> str:
        return f"http://127.0.0.1:8000/{project_id}"

    def ensure_running(self, project_id: str) -> None:
        if self.reason is not None:
            raise ProjectUnavailable(self.reason)


class House:
    """One data folder and one database; `papita` opens it once, `opened` any number of times."""

    def __init__(self, folder: Path, database_url: str | None = None) -> None:
        self.folder = folder
        self.clock = MovableClock()
        self.runner = Runner()
        self.environment = {
            "PAPITA_DATA_DIR": str(folder / "data"),
            "PAPITA_CONFIG": str(folder / "papita.toml"),
            "ALCHAT_CLIENT_SECRET": CLIENT_SECRET,
        }
        (folder / "papita.toml").touch()
        if database_url is not None:
            self.environment["PAPITA_DATABASE_URL"] = database_url
        self._stack = ExitStack()
        self._papita: Papita | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def settings(self, **more: str) -> Settings:
        return Settings.load({**self.environment, **more})

    def opened(self, **more: str) -> Papita:
        papita = build(self.settings(**more), self.clock)
        self._stack.callback(papita.close)
        return papita

    @property
    def papita(self) -> Papita:
        if self._papita is None:
            self._papita = self.opened()
        return self._papita

    def api(self, papita: Papita | None = None) -> TestClient:
        """The API where the portal mounts it, below `/api`."""
        api = create_api(papita or self.papita, runner=self.runner)
        root = Starlette(routes=[Mount("/api", api)])
        client = TestClient(
            root, "http://localhost:3000", raise_server_exceptions=False, follow_redirects=False
        )
        return self._stack.enter_context(client)

    # --- people ---

    def user(self, name: str, role: str = "member") -> str:
        """The id of a new user, whose password is `PASSWORD`."""
        papita = self.papita
        with papita.database.write() as session:
            new = NewUser(name, PASSWORD, role=role)
            return papita.users.add(session, new, _password_hash(), actor_id="test").id

    def sign_in(self, name: str, role: str = "member") -> Actor:
        """A new user, signed in."""
        started = self.papita.sessions.start(self.user(name, role))
        return Actor.for_session(self.papita.sessions.redeem(started.ticket)[1])

    def cookie(self, name: str) -> dict[str, str]:
        """A fresh session's cookie of a user who is there."""
        user = self.papita.users.by_username(name)
        assert user is not None
        handle, _ = self.papita.sessions.redeem(self.papita.sessions.start(user.id).ticket)
        return {"Cookie": f"papita_session={handle}"}

    def access_token(self, name: str, *scopes: str) -> str:
        """A personal access token of a user who is there."""
        every = ("credentials:read", "credentials:write", "projects:launch")
        return self.papita.access_tokens.create(
            Actor.operator(), name="test", scopes=scopes or every, username=name
        ).token

    # --- keys ---

    def key(self, actor: Actor, value: str = KEY, **more: Any) -> CredentialInfo:
        new = NewCredential("openai", {"api_key": value}, **more)
        return self.papita.credentials.create(actor, new)

    def project_token(self, actor: Actor) -> str:
        """What AL-Chat has after an exchange for an actor who consents."""
        self.papita.grants.allow(actor, "al-chat")
        user_token = self.papita.projects.user_token(actor, "al-chat")
        return self.papita.grants.exchange("al-chat", user_token.token, "openai").token

    def lend(self, token: str, username: str) -> Loan:
        request = LoanRequest(token, username, "openai", "al-chat")
        return self.papita.lender.resolve(request).result(30)

    # --- the database, as somebody who can write it ---

    def sql(self, statement: str, **values: Any) -> list[Any]:
        with self.papita.database.write() as session:
            result: Any = session.execute(text(statement), values)
            return list(result.all()) if result.returns_rows else []


@cache
def _password_hash() -> str:
    return hash_password(PASSWORD)


def at_once(calls: Sequence[Callable[[], T]]) -> list[T | Exception]:
    """Runs all calls at the same moment, each in a thread of its own; results or errors."""
    results: list[T | Exception] = [RuntimeError("not run")] * len(calls)
    gate = threading.Barrier(len(calls))

    def run(place: int) -> None:
        gate.wait()
        try:
            results[place] = calls[place]()
        except Exception as error:  # noqa: BLE001 - the caller looks at it
            results[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
