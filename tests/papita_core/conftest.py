"""A house with a door: one Papita over a real database, its people, its clock and its API.

Tests that mark themselves with `both_engines` run on SQLite and on PostgreSQL.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.papita_core.house import ROOT, House
from tests.papita_core.postgres import Postgres, shared_server


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    base = tmp_path_factory.getbasetemp()
    with shared_server(base.parent if base.name.startswith("popen-") else base) as server:
        yield server


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    return str(getattr(request, "param", "sqlite"))


@pytest.fixture
def database_url(engine: str, request: pytest.FixtureRequest) -> Iterator[str | None]:
    """None for SQLite where Papita puts it by itself; else a PostgreSQL database of its own."""
    if engine == "sqlite":
        yield None
        return
    server: Postgres = request.getfixturevalue("postgres")
    with server.database() as url:
        yield url


@pytest.fixture
def house(tmp_path: Path, database_url: str | None) -> Iterator[House]:
    with House(tmp_path, database_url) as made:
        yield made


@pytest.fixture(scope="session")
def provider() -> Iterator[str]:
    """The origin of a scripted provider, a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "demo.provider", "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1].removesuffix("/v1")
        process.terminate()
