"""`python -m tests.papita_core.starter`: forks real processes that work with Papita, when told.

A fork of a process that has imported everything starts in milliseconds: a kill hits the work and
not the imports, and many commands can be tried. One JSON request per line, one answer per line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import papita_core.__main__
from papita_core.app import build
from papita_core.settings import Settings
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

    def wait(self) -> list[int]:
        """How each process that began to build since ended: 0 well, negative by a signal."""
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
    children: list[int] = []
    for line in sys.stdin:
        match json.loads(line):
            case {"build": count, "environment": environment}:
                answer: list[Any] = [_build(environment) for _ in range(count)]
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
