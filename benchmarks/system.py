"""Starts the portal, AL-Chat and the scripted provider on free ports in a folder of its own.

`running()` gives a `System`; leaving it stops every process.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).resolve().parents[1]
READY_WITHIN = 60.0


class SystemFailed(Exception):
    """A process did not start or a request was refused; the message holds the end of its output."""


@dataclass
class User:
    name: str
    password: str
    access_token: str


@dataclass
class System:
    """Addresses of the three services, and what a client needs to talk to them."""

    folder: Path
    portal_url: str
    alchat_url: str
    provider_url: str
    environment: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def papita(self, *arguments: str, text: str | None = None) -> str:
        """Runs `python -m papita_core …` and returns what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "papita_core", *arguments],
            cwd=ROOT,
            env=self.environment,
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemFailed(f"papita_core {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def add_user(self, name: str) -> User:
        """A user with a key for the scripted provider, who lets AL-Chat use it."""
        password = secrets.token_urlsafe(16)
        self.papita("users", "add", name, "--password-stdin", text=password + "\n")
        printed = self.papita(
            *("tokens", "create", "--user", name, "--name", "benchmark"),
            *("--scope", "credentials:write", "--scope", "projects:launch"),
        )
        match = re.search(r"papita_pat_\S+", printed)
        if match is None:
            raise SystemFailed("papita_core tokens create printed no token")
        user = User(name, password, match[0])
        key = f"sk-demo-{secrets.token_urlsafe(24)}"
        body = {
            "credentialType": "openai",
            "label": "Scripted provider",
            "baseUrl": self.provider_url,
            "credentials": {"api_key": key},
        }
        self._call("POST", "/api/credentials", user, body)
        return user

    def user_token(self, user: User) -> str:
        """A fresh token for AL-Chat; it lasts five minutes."""
        return str(self._call("POST", "/api/projects/al-chat/launch", user)["token"])

    def client_credentials(self) -> tuple[str, str]:
        """AL-Chat's own name and secret towards Papita."""
        return "al-chat", (self.folder / "keys" / "alchat-client-secret").read_text().strip()

    def audit_rows(self) -> int:
        """Rows of Papita's audit log, read from its database."""
        path = self.folder / "data" / "papita.db"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            names = [
                name
                for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type='table'")
                if name in ("audit_events", "audit_entries", "audit_log", "audit")
            ]
            (count,) = database.execute(f"SELECT count(*) FROM {names[0]}").fetchone()  # noqa: S608
        return int(count)

    def start(self, name: str, arguments: Sequence[str], health: str, **more: str) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        with log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env={**self.environment, **more},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        end = time.monotonic() + READY_WITHIN
        while True:
            if self.processes[name].poll() is not None or time.monotonic() > end:
                raise SystemFailed(f"{name} did not start:\n{self._tail(name)}")
            with contextlib.suppress(requests.RequestException):
                if requests.get(health, timeout=2).ok:
                    return
            time.sleep(0.05)

    def start_alchat(self, **more: str) -> None:
        self.start("alchat", ["-m", "alchat_core"], f"{self.alchat_url}/healthz", **more)

    def stop(self, name: str) -> None:
        process = self.processes.pop(name)
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def cpu_seconds(self) -> dict[str, float]:
        """User and system time of each process up to now."""
        import psutil

        found = {}
        for name, process in self.processes.items():
            times = psutil.Process(process.pid).cpu_times()
            found[name] = times.user + times.system
        return found

    def _call(
        self, method: str, path: str, user: User, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        answer = requests.request(
            method,
            self.portal_url + path,
            headers={"Authorization": f"Bearer {user.access_token}"},
            json=body,
            timeout=30,
        )
        if not answer.ok:
            raise SystemFailed(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return dict(answer.json())

    def _tail(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text("utf-8", "replace")[-2000:]


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def running(**alchat_settings: str) -> Iterator[System]:
    """The whole system, ready; raises SystemFailed."""
    with tempfile.TemporaryDirectory(prefix="papita-benchmark-") as name:
        folder = Path(name)
        portal, alchat, provider = free_ports(3)
        (folder / "papita.toml").touch()
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PAPITA_", "ALCHAT_"))}
        system = System(
            folder=folder,
            portal_url=f"http://localhost:{portal}",
            alchat_url=f"http://127.0.0.1:{alchat}",
            provider_url=f"http://127.0.0.1:{provider}/v1",
            environment={
                **clean,
                "PAPITA_CONFIG": str(folder / "papita.toml"),
                "PAPITA_DATA_DIR": str(folder / "data"),
                "PAPITA_PORT": str(portal),
                "PAPITA_API_URL": f"http://127.0.0.1:{portal}",
                "PAPITA_PROVIDER_ALLOWLIST": f"http://127.0.0.1:{provider}",
                "ALCHAT_PORT": str(alchat),
                "ALCHAT_URL": f"http://127.0.0.1:{alchat}",
            },
        )
        try:
            system.start(
                "provider",
                ["-m", "demo.provider", "--port", str(provider)],
                f"http://127.0.0.1:{provider}/_demo/requests",
            )
            system.start("portal", ["-m", "portal"], f"{system.portal_url}/healthz")
            system.start_alchat(**alchat_settings)
            yield system
        finally:
            for process in tuple(system.processes):
                system.stop(process)
