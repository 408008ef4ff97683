"""The running system for tests and benchmarks: portal, AL-Chat and provider as real processes.

Everything lies in one temporary folder; ports are free ones; what was started is stopped by pid.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

import requests

from papita_core.actors import TOKEN_SCOPES, Actor
from papita_core.app import Papita, build
from papita_core.settings import Settings
from papita_core.users.service import NewUser

ROOT = Path(__file__).resolve().parents[1]
PASSWORD = "correct-horse-7"
KEY = "sk-demo-canary-5f1e8c0a9b7d"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """One process, begun in `folder`, and the file that its output goes to."""

    def __init__(
        self,
        name: str,
        command: list[str],
        env: Mapping[str, str],
        log: Path,
        folder: Path = ROOT,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=dict(env),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self, number: int = signal.SIGTERM, seconds: float = 15) -> int:
        """Signals the process and waits; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(5)
            raise AssertionError(f"{self.name} did not stop:\n{self.output()[-4000:]}") from None

    def output(self) -> str:
        return self.log.read_text("utf-8", "replace")


class System:
    """A context: starts the provider and the portal, and AL-Chat if `alchat` says so.

    With `alchat=False` the portal starts AL-Chat when a user opens it, as on one machine.
    """

    def __init__(
        self, folder: Path, *, alchat: bool = False, settings: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.with_alchat = alchat
        self.port, self.alchat_port, self.provider_port = free_port(), free_port(), free_port()
        self.url = f"http://localhost:{self.port}"
        self.alchat_url = f"http://127.0.0.1:{self.alchat_port}"
        self.provider_url = f"http://127.0.0.1:{self.provider_port}"
        keep = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PAPITA_", "ALCHAT_", "STREAMLIT_"))
        }
        self.env = keep | {
            "PYTHONUNBUFFERED": "1",
            "PAPITA_PORT": str(self.port),
            "PAPITA_DATA_DIR": str(folder / "data"),
            "PAPITA_API_URL": f"http://127.0.0.1:{self.port}",
            "PAPITA_PROVIDER_ALLOWLIST": self.provider_url,
            "ALCHAT_PORT": str(self.alchat_port),
            "ALCHAT_URL": self.alchat_url,
            # Tests look for the first words in the list, and count loans.
            "ALCHAT_TITLES": "false",
            **(settings or {}),
        }
        self.servers: dict[str, Server] = {}

    def __enter__(self) -> Self:
        try:
            self.start_provider()
            self.start_portal()
            if self.with_alchat:
                self.start_alchat()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start_provider(self) -> None:
        self._start("provider", "-m", "demo.provider", "--port", str(self.provider_port))
        self.wait_for(f"{self.provider_url}/_demo/requests", "provider")

    def start_portal(self) -> None:
        self._start("portal", "-m", "portal")
        self.wait_for(f"{self.url}/healthz", "portal")

    def start_alchat(self) -> None:
        self._start("alchat", "-m", "alchat_core")
        self.wait_for(f"{self.alchat_url}/healthz", "alchat")

    def stop(self, name: str, number: int = signal.SIGTERM) -> int:
        return self.servers.pop(name).stop(number)

    def close(self) -> None:
        for name in list(self.servers)[::-1]:
            self.stop(name)

    def wait_for(self, url: str, name: str, seconds: float = 40) -> None:
        """Waits until `url` answers with a status below 500."""
        server = self.servers[name]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if server.process.poll() is not None:
                raise AssertionError(f"{name} ended at once:\n{server.output()[-4000:]}")
            try:
                with urllib.request.urlopen(url, timeout=2) as answer:
                    if answer.status < 500:
                        return
            except urllib.error.HTTPError as error:
                error.close()
                if error.code < 500:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"{name} does not answer:\n{server.output()[-4000:]}")

    def setup_code(self, *, other_than: str = "") -> str:
        """The newest one-time code that the portal's terminal shows."""
        end = time.monotonic() + 10
        while time.monotonic() < end:
            found = re.findall(r"\?setup=([A-Z0-9-]+)", self.servers["portal"].output())
            if found and found[-1] != other_than:
                return str(found[-1])
            time.sleep(0.05)
        raise AssertionError("the terminal shows no set-up code")

    def cli(self, *arguments: str, stdin: str = "") -> str:
        """Runs `python -m papita_core …`; its standard output."""
        done = subprocess.run(
            [sys.executable, "-m", "papita_core", *arguments],
            cwd=ROOT,
            env=self.env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def papita(self) -> closing[Papita]:
        """A context: Papita over the same data, sooner than a command, which must start first."""
        return closing(build(Settings.load(self.env)))

    def add_user(self, name: str, *, admin: bool = False) -> None:
        new = NewUser(name, PASSWORD, role="administrator" if admin else "member")
        with self.papita() as papita:
            papita.users.create(Actor.operator(), new)

    def access_token(self, name: str, *scopes: str) -> str:
        """A personal access token; with all scopes where none is named."""
        with self.papita() as papita:
            return papita.access_tokens.create(
                Actor.operator(), name="test", scopes=scopes or TOKEN_SCOPES, username=name
            ).token

    def user_token(self, name: str) -> str:
        """What AL-Chat takes from this user, for five minutes."""
        headers = {"Authorization": f"Bearer {self.access_token(name)}"}
        launch = f"{self.url}/api/projects/al-chat/launch"
        answer = requests.post(launch, headers=headers, timeout=60)
        answer.raise_for_status()
        return str(answer.json()["token"])

    def provider(self, **behaviour: bool) -> None:
        """Makes the provider misbehave: `down=True`, `rejectKeys=True`."""
        request = urllib.request.Request(
            f"{self.provider_url}/_demo/behaviour",
            data=json.dumps(behaviour).encode(),
            headers={"Content-Type": "application/json"},
            method="POST",
        )
        with urllib.request.urlopen(request, timeout=5):
            pass

    def provider_requests(self) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.provider_url}/_demo/requests", timeout=5) as answer:
            found: dict[str, int] = json.load(answer)
            return found

    def output(self) -> str:
        """Everything that any process wrote."""
        return "\n".join(path.read_text("utf-8", "replace") for path in self.folder.glob("*.log"))

    def _start(self, name: str, *arguments: str, folder: Path = ROOT) -> None:
        log = self.folder / f"{name}.log"
        self.servers[name] = Server(name, [sys.executable, *arguments], self.env, log, folder)
