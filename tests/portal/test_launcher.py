"""The launcher, with real processes: one start, adoption, a clean stop, and reasons in words."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from alchat_core.client import AlChatClient
from papita_core.errors import ProjectUnavailable
from portal import launcher as launcher_module
from portal.launcher import Launcher, Service, State
from portal.wiring import ROOT
from tests.portal.conftest import free_port

SCRIPT = Path(__file__).with_name("stand_in_service.py")
Make = Callable[..., Launcher]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Launcher] = []
    clients: list[AlChatClient] = []
    port = free_port()

    def build(*options: str, command: bool = True) -> Launcher:
        client = AlChatClient(f"http://127.0.0.1:{port}")
        service = Service(
            "al-chat",
            "AL-Chat",
            f"http://127.0.0.1:{port}",
            client,
            command=(sys.executable, str(SCRIPT), str(port), *options) if command else (),
            environment={"ALCHAT_PORT": str(port)},
        )
        clients.append(client)
        made.append(Launcher([service], tmp_path))
        return made[-1]

    yield build
    for each in made:
        each.close()
    for client in clients:
        client.close()


def pid_of(folder: Path) -> int:
    return int(json.loads((folder / "al-chat.pid").read_text())["pid"])


def test_it_starts_what_is_stopped_and_stops_what_it_started(make: Make, tmp_path: Path) -> None:
    launcher = make()
    assert launcher.status("al-chat").state is State.STOPPED
    launcher.ensure_running("al-chat")
    assert launcher.status("al-chat").state is State.RUNNING
    pid = pid_of(tmp_path)
    launcher.close()
    assert not psutil.pid_exists(pid)
    assert launcher.status("al-chat").state is State.STOPPED
    assert not (tmp_path / "al-chat.pid").exists()
    with pytest.raises(ProjectUnavailable):
        launcher.ensure_running("al-chat")


def test_two_who_press_at_once_start_one(make: Make, tmp_path: Path) -> None:
    launcher = make("--after", "0.3")
    threads = [
        threading.Thread(target=launcher.ensure_running, args=("al-chat",)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert launcher.status("al-chat").state is State.RUNNING
    assert (tmp_path / "al-chat.log").read_text().count("environment:") == 1


def test_one_that_is_about_to_stop_is_started_again(make: Make, tmp_path: Path) -> None:
    launcher = make("--linger", "1")
    launcher.ensure_running("al-chat")
    first = pid_of(tmp_path)
    os.kill(first, signal.SIGTERM)
    deadline = time.monotonic() + 10
    while launcher.is_running("al-chat"):
        assert time.monotonic() < deadline
    assert psutil.pid_exists(first)
    launcher.ensure_running("al-chat")
    assert launcher.status("al-chat").state is State.RUNNING
    assert pid_of(tmp_path) != first


def test_it_says_that_a_project_is_starting(make: Make) -> None:
    launcher = make("--after", "1")
    thread = threading.Thread(target=launcher.ensure_running, args=("al-chat",))
    thread.start()
    seen = set()
    while thread.is_alive():
        seen.add(launcher.status("al-chat").state)
        time.sleep(0.02)
    assert State.STARTING in seen
    assert launcher.status("al-chat").state is State.RUNNING


def test_a_project_that_is_not_ready_is_unhealthy_with_its_reason(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher_module, "START_SECONDS", 0.0)
    launcher = make("--after", "60")
    with pytest.raises(ProjectUnavailable, match="Still warming up"):
        launcher.ensure_running("al-chat", timeout=6)
    status = launcher.status("al-chat")
    assert (status.state, status.detail) == (State.UNHEALTHY, "Still warming up.")


def test_a_failed_start_gives_the_last_words_without_secrets(make: Make) -> None:
    launcher = make("--die", "no key sk-demo-1234567890 and Bearer abc.def.ghi\nsorry")
    with pytest.raises(ProjectUnavailable) as refusal:
        launcher.ensure_running("al-chat", timeout=5)
    sentence = str(refusal.value)
    assert "stopped while it was starting" in sentence
    assert "sorry" in sentence
    assert "(hidden)" in sentence
    assert "1234567890" not in sentence
    assert "abc.def" not in sentence


def test_a_child_gets_nothing_of_the_portals_own(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PAPITA_MASTER_KEY", "PAPITA_DATABASE_URL", "OPENAI_API_KEY", "DATABASE_PASSWORD"):
        monkeypatch.setenv(name, "none of its business")
    make().ensure_running("al-chat")
    line = (tmp_path / "al-chat.log").read_text().splitlines()[0]
    names = set(json.loads(line.removeprefix("environment:")))
    assert {"ALCHAT_PORT", "PATH"} <= names
    assert not names & {
        "PAPITA_MASTER_KEY",
        "PAPITA_DATABASE_URL",
        "OPENAI_API_KEY",
        "DATABASE_PASSWORD",
    }


def test_the_next_portal_adopts_and_stops_what_a_killed_one_started(
    make: Make, tmp_path: Path
) -> None:
    first = make()
    first.ensure_running("al-chat")
    pid = pid_of(tmp_path)
    second = make()
    second.ensure_running("al-chat")
    assert pid_of(tmp_path) == pid
    second.close()
    first._children["al-chat"].wait(timeout=5)
    assert not psutil.pid_exists(pid)


def test_a_kill_of_the_portal_leaves_the_project_alone(tmp_path: Path) -> None:
    port = free_port()
    script = f"""
import sys, time
from pathlib import Path
from alchat_core.client import AlChatClient
from portal.launcher import Launcher, Service
client = AlChatClient("http://127.0.0.1:{port}")
command = (sys.executable, {str(SCRIPT)!r}, "{port}")
service = Service("al-chat", "AL-Chat", client.base_url, client, command, {{}})
Launcher([service], Path({str(tmp_path)!r})).ensure_running("al-chat")
print("up", flush=True)
time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as portal:
        assert portal.stdout is not None
        assert portal.stdout.readline() == "up\n"
        portal.kill()
    project = psutil.Process(pid_of(tmp_path))
    try:
        assert project.is_running()
        assert os.getsid(project.pid) == project.pid
    finally:
        project.kill()
        project.wait(5)


def test_a_pid_that_now_belongs_to_somebody_else_is_left_alone(make: Make, tmp_path: Path) -> None:
    launcher = make()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"]) as bystander:
        (tmp_path / "al-chat.pid").write_text(json.dumps({"pid": bystander.pid, "created": 1.0}))
        assert launcher.status("al-chat").state is State.STOPPED
        launcher.close()
        assert bystander.poll() is None
        bystander.kill()


def test_a_project_that_will_not_stop_is_killed(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher_module, "STOP_SECONDS", 0.5)
    launcher = make("--ignore-term")
    launcher.ensure_running("al-chat")
    pid = pid_of(tmp_path)
    launcher.close()
    assert not psutil.pid_exists(pid)


def test_a_project_elsewhere_is_only_watched(make: Make) -> None:
    launcher = make(command=False)
    assert not launcher.can_start("al-chat")
    status = launcher.status("al-chat")
    assert status.state is State.STOPPED
    assert "Nothing answers at" in status.detail
    with pytest.raises(ProjectUnavailable, match="runs by itself"):
        launcher.ensure_running("al-chat")


def test_an_unknown_project_is_not_installed(make: Make) -> None:
    with pytest.raises(ProjectUnavailable, match="not installed"):
        make().ensure_running("ai-resume")


def test_a_project_that_died_is_started_again(make: Make, tmp_path: Path) -> None:
    launcher = make()
    launcher.ensure_running("al-chat")
    first = pid_of(tmp_path)
    os.kill(first, signal.SIGKILL)
    for _ in range(100):
        if launcher.status("al-chat").state is State.STOPPED:
            break
        time.sleep(0.02)
    launcher.ensure_running("al-chat")
    assert pid_of(tmp_path) != first
