"""`python -m portal` as a process: one line and an exit code for whatever cannot be started."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from portal.wiring import ROOT
from tests.portal.conftest import free_port

SETTING_ERRORS = [
    {"PAPITA_PORT": "many"},
    {"PAPITA_PROT": "3000"},
    {"ALCHAT_URL": "ftp://somewhere"},
    {"PAPITA_CONFIG": "no-such-file.toml"},
]


def environment(folder: Path, **settings: str) -> dict[str, str]:
    return {
        **os.environ,
        "PAPITA_DATA_DIR": str(folder / "data"),
        "PAPITA_PORT": str(free_port()),
        "ALCHAT_PORT": str(free_port()),
        "PYTHONUNBUFFERED": "1",
        **settings,
    }


def refused(env: dict[str, str]) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-m", "portal"],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert not done.stdout
    return done.returncode, done.stderr.splitlines()


@contextmanager
def portal(env: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running portal and what it printed until it was ready."""
    with subprocess.Popen(
        [sys.executable, "-m", "portal"],
        env=env,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = ""
        try:
            while "enter the set-up code" not in said:
                line = process.stdout.readline()
                assert line, said
                said += line
            yield process, said
        finally:
            process.kill()


@pytest.mark.parametrize("settings", SETTING_ERRORS, ids=lambda s: next(iter(s)))
def test_a_setting_that_cannot_be_used_is_named(settings: dict[str, str], tmp_path: Path) -> None:
    code, lines = refused(environment(tmp_path, **settings))
    assert code == 2
    assert len(lines) == 1
    assert next(iter(settings)) in lines[0]
    assert not (tmp_path / "data").exists()


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, lines = refused(environment(tmp_path, PAPITA_PORT=str(port)))
    assert code == 1
    assert len(lines) == 1
    assert str(port) in lines[0]
    assert "in use" in lines[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_it_prints_the_way_in_serves_and_stops_cleanly(number: int, tmp_path: Path) -> None:
    env = environment(tmp_path)
    origin = f"http://localhost:{env['PAPITA_PORT']}"
    with portal(env) as (process, said):
        assert f"Papita is at {origin}" in said
        assert re.search(rf"{origin}/\?setup=[A-Z0-9-]{{19}}\n", said)
        for path, kind in (("/healthz", "json"), ("/readyz", "json"), ("/", "html")):
            with urllib.request.urlopen(origin + path + "?secret=canary", timeout=10) as answer:
                assert kind in answer.headers["content-type"]
                assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        with urllib.request.urlopen(f"{origin}/_stcore/host-config", timeout=10) as answer:
            assert json.load(answer)["allowedOrigins"] == []  # no page around it is obeyed
        process.send_signal(number)
        rest, _ = process.communicate(timeout=15)
        assert process.returncode == 0
        assert "canary" not in said + rest
        assert "Traceback" not in rest
