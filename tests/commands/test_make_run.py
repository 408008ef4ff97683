"""`make run` in a terminal: Ctrl-C stops everything that it started, and make exits 0."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from tests.system import ROOT, System

# Makes its standard input the terminal that controls it, then becomes the command.
IN_A_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self._screen, inside = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", IN_A_TERMINAL, *command],
            cwd=ROOT,
            env=env,
            stdin=inside,
            stdout=inside,
            stderr=inside,
        )
        os.close(inside)
        self.pid = self._process.pid
        self.text = ""

    def read_until(self, mark: str, seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while mark not in self.text:
            assert time.monotonic() < end, self.text
            ready, _, _ = select.select([self._screen], [], [], 0.2)
            if ready:
                try:
                    self.text += os.read(self._screen, 65536).decode("utf-8", "replace")
                except OSError:
                    raise AssertionError(f"it ended at once:\n{self.text}") from None

    def press(self, key: bytes) -> None:
        os.write(self._screen, key)

    def exit_code(self, seconds: float = 20) -> int:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            ready, _, _ = select.select([self._screen], [], [], 0.1)
            try:
                if ready and os.read(self._screen, 65536):
                    continue
            except OSError:
                pass
            code = self._process.poll()
            if code is not None:
                os.close(self._screen)
                return code
            time.sleep(0.05)
        raise AssertionError("it does not end")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[System]:
    system = System(tmp_path)
    system.add_user("ana", admin=True)
    yield system
    system.close()


def test_ctrl_c_stops_everything_and_exits_0(house: System) -> None:
    token = house.access_token("ana")
    terminal = Terminal(["make", "run"], house.env)
    terminal.read_until(f"Papita is at {house.url}")
    answer = requests.post(
        f"{house.url}/api/projects/al-chat/launch",
        headers={"Authorization": f"Bearer {token}"},
        timeout=60,
    )
    assert answer.status_code == 200
    family = psutil.Process(terminal.pid).children(recursive=True)
    assert len(family) >= 2
    terminal.press(b"\x03")
    assert terminal.exit_code() == 0
    assert not [process for process in family if process.is_running()]
    for url in (house.url, house.alchat_url):
        with pytest.raises(requests.ConnectionError):
            requests.get(url, timeout=2)


def test_the_demo_says_how_to_sign_in_and_stops_its_provider(house: System) -> None:
    terminal = Terminal(["make", "demo"], house.env)
    terminal.read_until(f"Papita is at {house.url}")
    assert "sign in as     demo" in terminal.text
    family = psutil.Process(terminal.pid).children(recursive=True)
    assert any("demo.provider" in " ".join(process.cmdline()) for process in family)
    terminal.press(b"\x03")
    assert terminal.exit_code() == 0
    assert not [process for process in family if process.is_running()]
