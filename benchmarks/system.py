"""The harness of the tests, with what only measuring needs: many users, counters, CPU times."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.system import KEY, ROOT, System

__all__ = ["ROOT", "Bench", "BenchmarkFailed", "User", "running", "wait_until_quiet"]


QUIET = 0.08


class BenchmarkFailed(Exception):
    """What was to be measured did not work; the message says what was answered."""


@dataclass(frozen=True)
class User:
    """A user with a key for the scripted provider, who lets AL-Chat use it."""

    name: str
    access_token: str


class Bench(System):
    """Portal, AL-Chat and provider as processes of their own."""

    def add_users(self, prefix: str, count: int) -> list[User]:
        """Users `<prefix>0`, `<prefix>1`, …, each with a stored key."""
        found = []
        for number in range(count):
            name = f"{prefix}{number}"
            self.add_user(name)
            user = User(name, self.access_token(name))
            body = {
                "credentialType": "openai",
                "label": "Scripted provider",
                "baseUrl": f"{self.provider_url}/v1",
                "credentials": {"api_key": f"{KEY}-{number}"},
            }
            self._call("/api/credentials", user, body)
            found.append(user)
        return found

    def user_tokens(self, users: list[User]) -> list[str]:
        """A fresh token for AL-Chat for each; they last five minutes."""
        return [str(self._call("/api/projects/al-chat/launch", user)["token"]) for user in users]

    def client_credentials(self) -> tuple[str, str]:
        """AL-Chat's own name and secret towards Papita."""
        return "al-chat", (self.folder / "keys" / "alchat-client-secret").read_text().strip()

    def audit_rows(self) -> int:
        """Rows of Papita's audit log, read from its database."""
        path = self.folder / "data" / "papita.db"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            (count,) = database.execute("SELECT count(*) FROM audit_log").fetchone()
        return int(count)

    def cpu_seconds(self) -> dict[str, float]:
        """User and system time of each process up to now."""
        found = {}
        for name, server in self.servers.items():
            times = psutil.Process(server.process.pid).cpu_times()
            found[name] = times.user + times.system
        return found

    def addresses(self) -> dict[str, str]:
        """Base URLs for the load client; by number, so that no look-up of a name is measured."""
        return {
            "portal": self.env["PAPITA_API_URL"],
            "alchat": self.alchat_url,
            "provider": f"{self.provider_url}/v1",
        }

    def _call(self, path: str, user: User, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        answer = requests.post(
            self.url + path,
            headers={"Authorization": f"Bearer {user.access_token}"},
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
def running() -> Iterator[Bench]:
    """The whole system, ready. Its folder goes with it."""
    with tempfile.TemporaryDirectory(prefix="papita-benchmark-") as name:
        folder = Path(name) / "system"
        with Bench(folder, alchat=True) as system:
            yield system
