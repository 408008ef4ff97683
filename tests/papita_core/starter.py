"""`python -m tests.papita_core.starter`: forks real processes that work with Papita, when told.

A fork of a process that has imported everything starts in milliseconds: a kill hits the work and
not the imports, and many commands can be tried. One JSON request per line, one answer per line.
"""

from __future__ import annotations

import gc
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import papita_core.__main__
from papita_core.actors import Actor
from papita_core.app import Papita, build
from papita_core.errors import RotationRunning
from papita_core.settings import Settings
from papita_core.vault import rotation
from papita_core.vault.service import NewCredential, ReplaceCredential
from tests.papita_core.house import ROOT


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    output: str
    errors: str


class Starter:
    """The parent's side. A context, so that nothing is left running."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.papita_core.starter"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate(timeout=60)

    def build(self, environment: Mapping[str, str], count: int = 1) -> list[int]:
        """The ids of processes that have begun to build."""
        found: list[int] = self._ask({"build": count, "environment": dict(environment)})
        return found

    def work(self, environment: Mapping[str, str], what: str, log: Path) -> int:
        """The id of a process that does one thing over and over, until it is killed.

        `what` is a name of `WORK`. The log gets a line "ready" and then those that the work writes.
        """
        (found,) = self._ask({"work": what, "environment": dict(environment), "log": str(log)})
        return int(found)

    def wait(self) -> list[int]:
        """How each process that began since ended: 0 well, negative by a signal."""
        found: list[int] = self._ask({"wait": True})
        return found

    def command(self, environment: Mapping[str, str], *arguments: str, typed: str = "") -> Done:
        """`python -m papita_core` with these arguments, and this on its standard input."""
        return Done(
            *self._ask({"command": arguments, "environment": dict(environment), "typed": typed})
        )

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def _serve() -> None:
    # No child looks for garbage among what was imported.
    gc.freeze()
    children: list[int] = []
    for line in sys.stdin:
        match json.loads(line):
            case {"build": count, "environment": environment}:
                answer: list[Any] = [_build(environment) for _ in range(count)]
                children += answer
            case {"work": what, "environment": environment, "log": log}:
                answer = [_work(environment, WORK[what], log)]
                children += answer
            case {"command": arguments, "environment": environment, "typed": typed}:
                answer = _command(arguments, environment, typed)
            case _:
                answer = [_status(pid) for pid in children]
                children = []
        print(json.dumps(answer), flush=True)


def _status(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _build(environment: dict[str, str]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            papita = build(Settings.load(environment))
            os._exit(3 if papita.ring.sealed else 0)
        finally:  # only reached by an error
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    return pid


def _work(
    environment: dict[str, str], work: Callable[[Papita, Callable[..., None]], None], log: str
) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            papita = build(Settings.load(environment))
            if papita.ring.sealed:
                os._exit(3)
            file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

            def note(*words: str) -> None:
                os.write(file, (" ".join(words) + "\n").encode())  # one write, so whole lines

            note("ready")
            while True:
                work(papita, note)
        finally:  # only reached by an error
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    return pid


def _store(papita: Papita, note: Callable[..., None]) -> None:
    """Creates a credential, and then replaces its secret."""
    user = papita.users.by_username("ana")
    assert user is not None
    actor = Actor(user.id, "ana", "member", session_id="-")
    value = f"sk-test-{secrets.token_hex(16)}"
    note("creating", value)
    info = papita.credentials.create(actor, NewCredential("openai", {"api_key": value}))
    note("stored", info.id, value)
    value = f"sk-test-{secrets.token_hex(16)}"
    note("replacing", info.id, value)
    change = ReplaceCredential(secret={"api_key": value})
    papita.credentials.replace(actor, info.id, change, etag=info.etag)
    note("stored", info.id, value)
    time.sleep(0.02)  # SQLite serves whoever asks at the right moment; here, others as well


def _rotate_root(papita: Papita, note: Callable[..., None]) -> None:
    rotation.BATCH = 3  # many transactions, so that a kill falls between some
    with suppress(RotationRunning):
        note("rotated", papita.rotation.rotate_root(Actor.operator()).new_kid)


def _rotate_master(papita: Papita, note: Callable[..., None]) -> None:
    with suppress(RotationRunning):
        note("changed", papita.rotation.rotate_master(Actor.operator()).kid)


WORK = {"store": _store, "rotate root": _rotate_root, "rotate master": _rotate_master}


def _command(arguments: list[str], environment: dict[str, str], typed: str) -> list[Any]:
    given, output, errors = files = [tempfile.TemporaryFile("w+") for _ in range(3)]  # noqa: SIM115
    given.write(typed)
    given.seek(0)
    pid = os.fork()
    if pid == 0:
        for number, file in enumerate(files):
            os.dup2(file.fileno(), number)
        os.environ.clear()
        os.environ.update(environment)
        os._exit(_ended(arguments))
    found: list[Any] = [_status(pid)]
    for file in (output, errors):
        file.seek(0)
        found.append(file.read())
    for file in files:
        file.close()
    return found


def _ended(arguments: list[str]) -> int:
    code: object = 1
    try:
        sys.stdin = open(0, encoding="utf-8")  # noqa: SIM115
        code = papita_core.__main__.main(arguments)
    except SystemExit as ending:
        code = ending.code
    except Exception:  # noqa: BLE001 - as the interpreter does
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    return code if isinstance(code, int) else 1


if __name__ == "__main__":
    _serve()
