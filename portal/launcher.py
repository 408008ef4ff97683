"""Health and start of projects.

On one machine the portal starts a project when somebody opens it and stops it when it ends
itself; a project elsewhere is only watched. What a project is doing is read from its health
address and its process, never guessed.
"""

from __future__ import annotations

import contextlib
import enum
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from papita_core.errors import ProjectUnavailable
from portal.texts import N_, later

log = logging.getLogger(__name__)

START_SECONDS = 30.0
STOP_SECONDS = 8.0
LOG_LIMIT_BYTES = 5_000_000
SECRET = re.compile(
    r"(?i)(\b(?:sk|pk|rk)-[\w-]{4,}|papita_\w{8,}|bearer\s+\S+|basic\s+\S+|eyJ[\w-]+\.[\w.-]+)"
)
# What a child needs of its surroundings. Everything else stays here: the master key and the
# portal's own database are none of its business.
INHERITED = re.compile(
    r"(?i)PATH|HOME|LANG|LC_\w+|TZ|TMPDIR|PYTHON(?:UNBUFFERED|DONTWRITEBYTECODE)"
    r"|VIRTUAL_ENV|SSL_CERT_(?:FILE|DIR)|REQUESTS_CA_BUNDLE|(?:HTTPS?|ALL|NO)_PROXY|SYSTEMROOT"
)


class State(enum.StrEnum):
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class Status:
    """`detail` is a sentence for the user, empty when there is nothing to say."""

    state: State
    detail: str = ""


class Health(Protocol):
    """What a health address said: "ok", "not-ready" or "unreachable", and why."""

    @property
    def state(self) -> str: ...
    @property
    def reason(self) -> str | None: ...


class HealthClient(Protocol):
    """Asks the health address; never raises and answers within a second or two."""

    def health(self) -> Health: ...


@dataclass(frozen=True, slots=True)
class Service:
    """A project that is a service of its own. Without `command` it is only watched."""

    project_id: str
    title: str
    url: str
    health: HealthClient
    command: Sequence[str] = ()
    environment: Mapping[str, str] | None = None


class Launcher:
    """Implements `papita_core`'s `ProjectRunner`. One for each process; thread-safe."""

    def __init__(self, services: Sequence[Service], data_dir: Path) -> None:
        self._services = {service.project_id: service for service in services}
        self._data_dir = data_dir
        self._locks = {service.project_id: threading.Lock() for service in services}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._started: dict[str, float] = {}
        self._closed = False

    def url(self, project_id: str) -> str:
        """Where the project is. Raises `ProjectUnavailable`."""
        return self._service(project_id).url

    def can_start(self, project_id: str) -> bool:
        service = self._services.get(project_id)
        return service is not None and bool(service.command)

    def status(self, project_id: str) -> Status:
        """Asks the health address. Never raises for a project of this launcher."""
        service = self._service(project_id)
        health = service.health.health()
        if health.state == "ok":
            return Status(State.RUNNING)
        process = self._process(project_id)
        if process is not None and time.time() - process.create_time() < START_SECONDS:
            return Status(State.STARTING)
        if health.state == "not-ready":
            return Status(State.UNHEALTHY, _reason(health, service))
        if process is not None:
            sentence = later("{project} is there but does not answer.", project=service.title)
            return Status(State.UNHEALTHY, sentence)
        if not service.command:
            return Status(State.STOPPED, later("Nothing answers at {url}.", url=service.url))
        return Status(State.STOPPED)

    def is_running(self, project_id: str) -> bool:
        """Whether the project is healthy."""
        return self._service(project_id).health.health().state == "ok"

    def ensure_running(self, project_id: str, timeout: float = START_SECONDS) -> None:
        """Returns when the project is healthy. Raises `ProjectUnavailable`, with the reason.

        Of several callers one starts it and all of them wait.
        """
        service = self._service(project_id)
        if service.health.health().state == "ok":
            return
        if not service.command:
            raise ProjectUnavailable(
                later(
                    "{project} does not answer at {url}. It runs by itself, so somebody has to"
                    " start it there.",
                    project=service.title,
                    url=service.url,
                )
            )
        begin = time.monotonic()
        deadline = begin + timeout
        self._start_if_gone(service)
        while not self._wait_until_healthy(service, deadline):
            # What was there has just ended. What was started meanwhile should have stayed.
            if self._started.get(project_id, 0.0) >= begin:
                last = self._last_words(project_id)
                raise ProjectUnavailable(
                    later(
                        "{project} stopped while it was starting. It said: {last}",
                        project=service.title,
                        last=last,
                    )
                    if last
                    else later("{project} stopped while it was starting.", project=service.title)
                )
            self._start_if_gone(service)

    def _start_if_gone(self, service: Service) -> None:
        with self._locks[service.project_id]:
            if self._closed:
                raise ProjectUnavailable(
                    later("{project} is being stopped.", project=service.title)
                )
            if (
                self._process(service.project_id) is None
                and service.health.health().state == "unreachable"
            ):
                self._start(service)

    def _wait_until_healthy(self, service: Service, deadline: float) -> bool:
        """False if its process is gone. Raises `ProjectUnavailable` when the time is over."""
        reason = None
        while time.monotonic() < deadline:
            health = service.health.health()
            if health.state == "ok":
                return True
            reason = health.reason if health.state == "not-ready" else None
            if self._process(service.project_id) is None and health.state == "unreachable":
                return False
            time.sleep(0.1)
        last = self._last_words(service.project_id)
        if reason is None and last:
            reason = later(
                "{project} did not become ready in time. It said: {last}",
                project=service.title,
                last=last,
            )
        raise ProjectUnavailable(
            reason or later("{project} did not become ready in time.", project=service.title)
        )

    def close(self) -> None:
        """Stops every project that this launcher or an earlier one on this data folder started."""
        self._closed = True
        for project_id, lock in self._locks.items():
            with lock:
                self._stop(project_id)

    def stop(self, project_id: str) -> None:
        """Stops one project; a project that does not run is no error."""
        self._service(project_id)
        with self._locks[project_id]:
            self._stop(project_id)

    def _start(self, service: Service) -> None:
        self._data_dir.mkdir(parents=True, exist_ok=True)
        self._reap(service.project_id)
        path = self.log_path(service.project_id)
        too_long = path.exists() and path.stat().st_size > LOG_LIMIT_BYTES
        log.info("Starting %s", service.title)
        with path.open("wb" if too_long else "ab") as output:
            # A session of its own: neither Ctrl-C in the portal's terminal nor the portal's
            # sudden end takes an answer away that is being written.
            child = subprocess.Popen(
                list(service.command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={
                    **{k: v for k, v in os.environ.items() if INHERITED.fullmatch(k)},
                    **(service.environment or {}),
                },
                start_new_session=True,
            )
        self._children[service.project_id] = child
        self._started[service.project_id] = time.monotonic()
        try:
            created = psutil.Process(child.pid).create_time()
        except psutil.NoSuchProcess:
            return
        pid_file = self._pid_path(service.project_id)
        scratch = pid_file.with_suffix(".new")
        scratch.write_text(json.dumps({"pid": child.pid, "created": created}))
        scratch.replace(pid_file)

    def _process(self, project_id: str) -> psutil.Process | None:
        """The live process of the pid file. The time of its birth tells it from a successor."""
        child = self._children.get(project_id)
        if child is not None and child.poll() is not None:
            del self._children[project_id]
        try:
            noted = json.loads(self._pid_path(project_id).read_text())
            process = psutil.Process(int(noted["pid"]))
            same = abs(process.create_time() - float(noted["created"])) < 1.0
            if same and process.status() != psutil.STATUS_ZOMBIE:
                return process
        except (OSError, ValueError, KeyError, TypeError, psutil.Error):
            pass
        return None

    def _stop(self, project_id: str) -> None:
        process = self._process(project_id)
        if process is not None:
            log.info("Stopping %s", self._services[project_id].title)
            with contextlib.suppress(psutil.Error):
                family = [process, *process.children(recursive=True)]
                process.send_signal(signal.SIGTERM)
                _, alive = psutil.wait_procs(family, timeout=STOP_SECONDS)
                for left in alive:
                    with contextlib.suppress(psutil.Error):
                        left.kill()
                psutil.wait_procs(alive, timeout=2)
        self._reap(project_id)
        self._pid_path(project_id).unlink(missing_ok=True)

    def _reap(self, project_id: str) -> None:
        """Takes the exit code of a child that has ended, which is a zombie until then."""
        child = self._children.pop(project_id, None)
        if child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=2)

    def _last_words(self, project_id: str) -> str:
        try:
            with self.log_path(project_id).open("rb") as output:
                output.seek(0, os.SEEK_END)
                output.seek(max(0, output.tell() - 4000))
                lines = output.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        last = [SECRET.sub("(hidden)", line.strip()) for line in lines if line.strip()][-3:]
        return " / ".join(last)

    def log_path(self, project_id: str) -> Path:
        """Where the project's output goes."""
        return self._data_dir / f"{project_id}.log"

    def _pid_path(self, project_id: str) -> Path:
        return self._data_dir / f"{project_id}.pid"

    def _service(self, project_id: str) -> Service:
        try:
            return self._services[project_id]
        except KeyError:
            raise ProjectUnavailable(N_("This project is not installed.")) from None


def _reason(health: Health, service: Service) -> str:
    return health.reason or later("{project} is not ready.", project=service.title)


def python_module(name: str) -> tuple[str, ...]:
    """The command that runs a module with this interpreter."""
    return (sys.executable, "-m", name)
