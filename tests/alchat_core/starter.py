"""`python -m tests.alchat_core.starter`: forks AL-Chat processes, when told.

A fork of a process that has imported everything is ready in a fraction of the two seconds that a
new interpreter takes. One JSON request per line, one answer per line.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]


class Starter:
    """The parent's side. A context, so that nothing is left running."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.alchat_core.starter"],
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

    def start(self, environment: Mapping[str, str], log: Path) -> Forked:
        """`python -m alchat_core` with this environment; its output goes to the log."""
        return Forked(self, self._ask({"environment": dict(environment), "log": str(log)}))

    def status(self, pid: int) -> int | None:
        """How a process ended: an exit code, or negative by a signal; None while it runs."""
        found: int | None = self._ask({"status": pid})
        return found

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


class Forked:
    """What a test needs of `subprocess.Popen`, for a child of the starter."""

    def __init__(self, starter: Starter, pid: int) -> None:
        self.pid = pid
        self._starter = starter
        self._code: int | None = None

    def poll(self) -> int | None:
        if self._code is None:
            self._code = self._starter.status(self.pid)
        return self._code

    def wait(self, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("alchat_core", timeout)
            time.sleep(0.005)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _serve() -> None:
    # Imported for the children: what AL-Chat uses, and what its libraries import when first used.
    import alembic.command  # noqa: F401
    import httpcore2  # noqa: F401
    import uvicorn.lifespan.on
    import uvicorn.loops.uvloop
    import uvicorn.protocols.http.httptools_impl
    import uvicorn.protocols.websockets.websockets_sansio_impl  # noqa: F401

    import alchat_core.__main__
    import alchat_core.api.app
    import alchat_core.db.migrate

    # No child looks for garbage among what was imported.
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        if pid := request.get("status"):
            done, status = os.waitpid(pid, os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if done else None
        else:
            answer = _fork(request["environment"], request["log"], alchat_core.__main__.main)
        print(json.dumps(answer), flush=True)


def _fork(environment: dict[str, str], log: str, main: Any) -> int:
    pid = os.fork()
    if pid:
        return pid
    code: object = 1
    try:
        nothing = os.open(os.devnull, os.O_RDONLY)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for number, file in enumerate((nothing, output, output)):
            os.dup2(file, number)
        os.environ.clear()
        os.environ.update(environment)
        code = main()
    except SystemExit as ending:
        code = ending.code
    except BaseException:  # noqa: BLE001 - as the interpreter does
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    _serve()
