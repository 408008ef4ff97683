"""`python -m tests.papita_core.starter`: forks real processes that build Papita, when told.

Reads one JSON command per line, `{"start": N, "environment": {…}}` or `{"wait": true}`, and
answers with the process ids, or with the exit status of each. A fork of a process that has
imported everything starts in milliseconds, so a kill hits the work and not the imports.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from papita_core.app import build
from papita_core.settings import Settings
from tests.papita_core.house import ROOT


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

    def start(self, environment: Mapping[str, str], count: int = 1) -> list[int]:
        """The ids of processes that have begun to build."""
        return self._ask({"start": count, "environment": dict(environment)})

    def wait(self) -> list[int]:
        """How each process that was started since ended: 0 well, negative by a signal."""
        return self._ask({"wait": True})

    def _ask(self, command: dict[str, Any]) -> list[int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        answer: list[int] = json.loads(self._process.stdout.readline())
        return answer


def _serve() -> None:
    children: list[int] = []
    for line in sys.stdin:
        command = json.loads(line)
        if "start" in command:
            answer = [_fork(command["environment"]) for _ in range(command["start"])]
            children += answer
        else:
            answer = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
            children = []
        print(json.dumps(answer), flush=True)


def _fork(environment: dict[str, str]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            papita = build(Settings.load(environment))
            os._exit(3 if papita.ring.sealed else 0)
        finally:  # only reached by an error
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    return pid


if __name__ == "__main__":
    _serve()
