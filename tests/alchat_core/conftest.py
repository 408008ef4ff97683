"""AL-Chat, the scripted provider and a small Papita as real processes and real HTTP."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from alchat_core.client import AlChatClient, Event, UserClient
from tests.alchat_core.starter import Forked, Starter

sys.path.insert(0, str(Path(__file__).parent))
from fake_papita import CLIENT, FakePapita

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def clean_environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PAPITA_", "ALCHAT_"))
    }


class ScriptedProvider:
    """`demo.provider` as a process."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "demo.provider", "--port", "0"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/v1", line)
        assert found, line
        self.origin = f"http://127.0.0.1:{found[1]}"
        self.base_url = self.origin + "/v1"
        # The same server under another name: here AL-Chat takes it to have the Responses API.
        self.by_name = f"http://localhost:{found[1]}"

    def requests(self) -> dict[str, Any]:
        found: dict[str, Any] = requests.get(self.origin + "/_demo/requests", timeout=5).json()
        return found

    def behave(self, **switches: bool) -> None:
        requests.post(self.origin + "/_demo/behaviour", json=switches, timeout=5)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        if self.process.stdout is not None:
            self.process.stdout.close()


class Service:
    """AL-Chat as a process over one data folder; it can be killed and started again.

    With a starter it is forked from one that has imported everything.
    """

    def __init__(
        self,
        folder: Path,
        papita: str,
        allowed: str,
        starter: Starter | None = None,
        **settings: str,
    ) -> None:
        self.starter = starter
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "alchat.log"
        self.database = folder / "data" / "alchat.db"
        self.environment = {
            "PAPITA_DATA_DIR": str(folder / "data"),
            "PAPITA_API_URL": papita,
            "PAPITA_PROVIDER_ALLOWLIST": allowed,
            "ALCHAT_PORT": str(self.port),
            "ALCHAT_CLIENT_SECRET": CLIENT[1],
            # Long enough for a machine with other work; `impatient` is for what must time out.
            "ALCHAT_FIRST_TOKEN_TIMEOUT": "20.0",
            "ALCHAT_TOKEN_GAP_TIMEOUT": "20.0",
            "ALCHAT_RETRY_AFTER_LIMIT": "1.0",
            "ALCHAT_PAPITA_TIMEOUT": "20.0",
            "ALCHAT_MAX_BODY_BYTES": "100000",
            "ALCHAT_MAX_MESSAGE_CHARS": "50000",
            "ALCHAT_MAX_RUNNING_ANSWERS": "4",
            "ALCHAT_LOG_LEVEL": "debug",
            # Tests count requests and loans; test_titles.py switches them on.
            "ALCHAT_TITLES": "false",
            "ALCHAT_PRICES": "echo=1000/2000",
            **settings,
        }
        self.process: subprocess.Popen[bytes] | Forked | None = None

    def start(self) -> None:
        environment = {**clean_environment(), **self.environment}
        if self.starter is not None:
            self.process = self.starter.start(environment, self.log)
        else:
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "alchat_core"],
                    cwd=ROOT,
                    env=environment,
                    stdout=log,
                    stderr=log,
                )
        deadline = time.monotonic() + 30
        while True:
            try:
                if requests.get(self.url + "/healthz", timeout=5).ok:
                    return
            except requests.RequestException:
                pass
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def stop(self, how: int = signal.SIGTERM) -> int:
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(15)
        self.process = None
        return code


@pytest.fixture(scope="session")
def provider() -> Iterator[ScriptedProvider]:
    running = ScriptedProvider()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def _papita(provider: ScriptedProvider) -> Iterator[FakePapita]:
    with FakePapita() as running:
        yield running


@pytest.fixture
def papita(_papita: FakePapita, provider: ScriptedProvider) -> Iterator[FakePapita]:
    _papita.reset()
    _papita.base_url = provider.base_url
    yield _papita
    _papita.reset()


def _ended(running: Service) -> Iterator[Service]:
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="session")
def shared_service(
    tmp_path_factory: pytest.TempPathFactory,
    _papita: FakePapita,
    provider: ScriptedProvider,
    starter: Starter,
) -> Iterator[Service]:
    yield from _ended(
        Service(
            tmp_path_factory.mktemp("alchat"),
            _papita.url,
            f"{provider.origin},{provider.by_name}",
            starter,
            ALCHAT_RESPONSES_ORIGINS=provider.by_name,
        )
    )


@pytest.fixture(scope="session")
def impatient_service(
    tmp_path_factory: pytest.TempPathFactory,
    _papita: FakePapita,
    provider: ScriptedProvider,
    starter: Starter,
) -> Iterator[Service]:
    yield from _ended(
        Service(
            tmp_path_factory.mktemp("impatient"),
            _papita.url,
            f"{provider.origin},{provider.by_name}",
            starter,
            ALCHAT_RESPONSES_ORIGINS=provider.by_name,
            ALCHAT_FIRST_TOKEN_TIMEOUT="1.5",
            ALCHAT_TOKEN_GAP_TIMEOUT="1.5",
            ALCHAT_PAPITA_TIMEOUT="1.5",
        )
    )


@pytest.fixture
def service(request: pytest.FixtureRequest, papita: FakePapita) -> Service:
    """The service of the session; tests marked `impatient` get one that does not wait long."""
    impatient = request.node.get_closest_marker("impatient") is not None
    found: Service = request.getfixturevalue("impatient_service" if impatient else "shared_service")
    return found


@pytest.fixture(scope="session")
def starter() -> Iterator[Starter]:
    with Starter() as running:
        yield running


@pytest.fixture
def own_service(
    tmp_path: Path, papita: FakePapita, provider: ScriptedProvider, starter: Starter
) -> Iterator[Callable[..., Service]]:
    """Starts a service of one's own with the settings given."""
    started: list[Service] = []

    def start(**settings: str) -> Service:
        running = Service(tmp_path, papita.url, provider.origin, starter, **settings)
        running.start()
        started.append(running)
        return running

    yield start
    for running in started:
        running.stop()


@pytest.fixture
def client(service: Service) -> Iterator[AlChatClient]:
    made = AlChatClient(service.url)
    yield made
    made.close()


_names = iter(range(10**9))


@pytest.fixture
def username() -> str:
    """A user that no other test has."""
    return f"user{next(_names)}-{os.getpid()}-{threading.get_ident()}"


@pytest.fixture
def user(client: AlChatClient, papita: FakePapita, username: str) -> UserClient:
    return client.as_user(lambda: papita.token_for(username))


def follow_to_end(
    user: UserClient, run_id: str, after: int = 0, timeout: float = 30
) -> list[Event]:
    events: list[Event] = []
    deadline = time.monotonic() + timeout
    with user.follow(run_id, after) as follower:
        while not follower.finished:
            assert time.monotonic() < deadline, events
            events += follower.wait(0.25)
    return events


def text_of(events: list[Event]) -> str:
    return "".join(event.data["text"] for event in events if event.type == "text.delta")


def ask(user: UserClient, model: str, content: str = "hello") -> list[Event]:
    """One message in a new conversation; the events of its answer."""
    conversation = user.create_conversation()
    return follow_to_end(user, user.send(conversation.id, content, model=model).run_id)


def wait_until(condition: Callable[[], bool], timeout: float = 20.0) -> float:
    """Seconds until `condition` held."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < timeout
        time.sleep(0.01)
    return time.monotonic() - begin
