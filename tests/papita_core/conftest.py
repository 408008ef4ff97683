"""A house with a door: one Papita over a real database, its people, its clock and its API.

Tests that mark themselves with `both_engines` run on SQLite and on PostgreSQL.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from papita_core.db import Database
from papita_core.db.migrate import migrate
from tests.papita_core.house import ROOT, House
from tests.papita_core.postgres import Postgres
from tests.papita_core.starter import Starter


@pytest.fixture(scope="session")
def migrated_postgres(postgres: Postgres) -> Iterator[str]:
    """The name of a database that holds the tables and nothing else."""
    with postgres.database() as url:
        _migrate(url)
        yield url.partition("?")[0].rpartition("/")[2]


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "papita.db"
    _migrate(f"sqlite:///{path}")
    return path


def _migrate(url: str) -> None:
    database = Database(url)
    migrate(database)
    database.close()


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    return str(getattr(request, "param", "sqlite"))


@pytest.fixture
def empty_house(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[House]:
    """Nothing is there yet, not even a table."""
    with ExitStack() as stack:
        url = None
        if engine == "postgresql":
            postgres: Postgres = request.getfixturevalue("postgres")
            url = stack.enter_context(postgres.database())
        yield stack.enter_context(House(tmp_path, url))


@pytest.fixture
def house(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[House]:
    """The tables are there: making them anew for each test would take most of its time."""
    with ExitStack() as stack:
        url = None
        if engine == "postgresql":
            template: str = request.getfixturevalue("migrated_postgres")
            postgres: Postgres = request.getfixturevalue("postgres")
            url = stack.enter_context(postgres.database(template))
        else:
            (tmp_path / "data").mkdir()
            migrated: Path = request.getfixturevalue("migrated_sqlite")
            shutil.copy(migrated, tmp_path / "data")
        yield stack.enter_context(House(tmp_path, url))


@pytest.fixture(scope="module")
def shared_house(
    tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path
) -> Iterator[House]:
    """One for all tests of a file, where none of them minds what the others leave behind."""
    folder = tmp_path_factory.mktemp("house")
    (folder / "data").mkdir()
    shutil.copy(migrated_sqlite, folder / "data")
    with House(folder) as made:
        yield made


@pytest.fixture(scope="session")
def starter() -> Iterator[Starter]:
    with Starter() as running:
        yield running


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
