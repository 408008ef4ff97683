"""The harness of the tests, with what only measuring needs: many users, counters, CPU times."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import psutil
import psycopg
import requests

from papita_core.actors import Actor
from papita_core.app import build
from papita_core.settings import Settings
from papita_core.vault.service import MAX_AT_ONCE, NewCredential
from tests.papita_core.postgres import durable_server
from tests.system import KEY, ROOT, System, free_port

__all__ = ["ENGINES", "ROOT", "Bench", "BenchmarkFailed", "User", "running", "wait_until_quiet"]


QUIET = 0.08
ENGINES = ("sqlite", "postgresql")


class BenchmarkFailed(Exception):
    """What was to be measured did not work; the message says what was answered."""


@dataclass(frozen=True)
class User:
    """A user with a key for the scripted provider, who lets AL-Chat use it."""

    name: str
    access_token: str
    credential_id: str


class Bench(System):
    """Portal, AL-Chat and provider as processes of their own."""

    def add_users(self, prefix: str, count: int) -> list[User]:
        """Users `<prefix>0`, `<prefix>1`, …, each with a stored key."""
        names = [f"{prefix}{number}" for number in range(count)]
        for name in names:
            self.add_user(name)
        return [self.borrowing(name, f"{KEY}-{number}") for number, name in enumerate(names)]

    def borrowing(self, name: str, key: str = KEY) -> User:
        """Stores a key for somebody who is there."""
        token = self.access_token(name)
        body = {
            "credentialType": "openai",
            "label": "Scripted provider",
            "baseUrl": f"{self.provider_url}/v1",
            "credentials": {"api_key": key},
        }
        made = self._call("/api/credentials", token, body)["credentials"]
        return User(name, token, str(made["id"]))

    def user_tokens(self, users: list[User]) -> list[str]:
        """A fresh token for AL-Chat for each; they last five minutes."""
        path = "/api/projects/al-chat/launch"
        return [str(self._call(path, user.access_token)["token"]) for user in users]

    def session_cookies(self, users: list[User]) -> list[str]:
        """A sign-in of each; the value of the cookie that a browser would have of it."""
        papita = build(Settings.load(self.env))
        found = []
        for user in users:
            known = papita.users.by_username(user.name)
            assert known is not None
            handle, session = papita.sessions.redeem(papita.sessions.start(known.id).ticket)
            papita.grants.allow(Actor.for_session(session), "al-chat")
            found.append(handle)
        papita.close()
        return found

    def borrowers(self, users: list[User]) -> list[dict[str, str]]:
        """What the load client needs of each."""
        return [
            {
                "name": user.name,
                "accessToken": user.access_token,
                "credentialId": user.credential_id,
                "userToken": user_token,
            }
            for user, user_token in zip(users, self.user_tokens(users), strict=True)
        ]

    def store(self, count: int) -> None:
        """So many credentials of somebody who borrows nothing."""
        (user,) = self.add_users("keeper", 1)
        papita = build(Settings.load(self.env))
        actor = papita.access_tokens.actor(user.access_token)
        assert actor is not None
        new = NewCredential("openai", {"api_key": f"{KEY}-one-of-many"})
        left = count - 1
        while left:
            some = min(left, MAX_AT_ONCE)
            papita.credentials.create_many(actor, [new] * some)
            left -= some
        papita.close()

    def root_keys(self) -> dict[str, int]:
        """How many credentials lie under each root key."""
        query = "SELECT kek_kid, count(*) FROM credential_secrets GROUP BY kek_kid"
        return {str(kid): int(count) for kid, count in self._rows(query)}

    def client_credentials(self) -> tuple[str, str]:
        """AL-Chat's own name and secret towards Papita."""
        return "al-chat", (self.folder / "keys" / "alchat-client-secret").read_text().strip()

    def audit_rows(self) -> int:
        """Rows of Papita's audit log, read from its database."""
        ((count,),) = self._rows("SELECT count(*) FROM audit_log")
        return int(count)

    def alchat_database(self) -> str:
        """Where AL-Chat keeps its conversations."""
        path = self.folder / "data" / "alchat.db"
        return self.env.get("ALCHAT_DATABASE_URL", f"sqlite:///{path}")

    def _rows(self, query: LiteralString) -> list[tuple[Any, ...]]:
        url = self.env.get("PAPITA_DATABASE_URL")
        if url is not None:
            with psycopg.connect(url.replace("+psycopg", "")) as connection:
                return connection.execute(query).fetchall()
        path = self.folder / "data" / "papita.db"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return database.execute(query).fetchall()

    def cpu_seconds(self) -> dict[str, float]:
        """User and system time of each process up to now."""
        found = {}
        for name, server in self.servers.items():
            times = psutil.Process(server.process.pid).cpu_times()
            found[name] = times.user + times.system
        return found

    def peak_memory_mb(self, name: str) -> float:
        """The most memory that a process has ever had at once (`VmHWM`), in MB."""
        status = Path(f"/proc/{self.servers[name].process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024 / 1e6

    def addresses(self) -> dict[str, str]:
        """Base URLs for the load client; by number, so that no look-up of a name is measured."""
        return {
            "portal": self.env["PAPITA_API_URL"],
            "alchat": self.alchat_url,
            "provider": f"{self.provider_url}/v1",
        }

    @contextlib.contextmanager
    def bare_page(self) -> Iterator[str]:
        """The address of a page with nothing but an input, which Streamlit serves by itself."""
        port = free_port()
        options = {
            "server.port": port,
            "server.address": "127.0.0.1",
            "server.headless": "true",
            "server.fileWatcherType": "none",
            "browser.gatherUsageStats": "false",
        }
        given = [f"--{name}={value}" for name, value in options.items()]
        # Begun in its own folder, where our settings of Streamlit are not found.
        folder = ROOT / "benchmarks" / "bare"
        self._start("bare", "-m", "streamlit", "run", "app.py", *given, folder=folder)
        address = f"http://127.0.0.1:{port}"
        self.wait_for(f"{address}/_stcore/health", "bare")
        yield address
        self.stop("bare")

    def _call(
        self, path: str, access_token: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        answer = requests.post(
            self.url + path,
            headers={"Authorization": f"Bearer {access_token}"},
            json=body,
            timeout=30,
        )
        if not answer.ok:
            raise BenchmarkFailed(f"POST {path}: {answer.status_code} {answer.text[:300]}")
        return dict(answer.json())


def wait_until_quiet(seconds: float = 60.0) -> float:
    """Waits until others leave the machine alone; the part of it that is busy after all, 0 to 1."""
    end = time.monotonic() + seconds
    while (busy := psutil.cpu_percent(0.7) / 100) > QUIET and time.monotonic() < end:
        time.sleep(0.3)
    return busy


@contextlib.contextmanager
def running(engine: str = "sqlite", **settings: str) -> Iterator[Bench]:
    """The whole system, ready. Its folder goes with it.

    `engine` keeps the data of both, with every commit on the disk; `settings` go to all processes.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="papita-benchmark-"))
        if engine == "postgresql":
            server = stack.enter_context(durable_server())
            for name in ("PAPITA_DATABASE_URL", "ALCHAT_DATABASE_URL"):
                settings[name] = stack.enter_context(server.database())
        yield stack.enter_context(Bench(Path(folder) / "system", alchat=True, settings=settings))
