"""A portal on a data folder of its own, with one user; no AL-Chat runs unless a test starts it."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import PropertyMock, patch

import pytest
from streamlit.runtime.context import ContextProxy

from papita_core.actors import Actor
from papita_core.users.service import NewUser, User
from portal import wiring
from portal.settings import PortalSettings
from portal.wiring import Services

PASSWORD = "a quiet harvest morning"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def browser_request(**cookies: str) -> Iterator[None]:
    """What `st.context` says of the request; AppTest has none of it."""
    with (
        patch.object(ContextProxy, "cookies", new_callable=PropertyMock, return_value=cookies),
        patch.object(ContextProxy, "headers", new_callable=PropertyMock, return_value={}),
        patch.object(ContextProxy, "ip_address", new_callable=PropertyMock, return_value=None),
    ):
        yield


@pytest.fixture(autouse=True)
def _stranger() -> Iterator[None]:
    with browser_request():
        yield


def settings_for(folder: Path) -> PortalSettings:
    return PortalSettings.load(
        {
            "PAPITA_CONFIG": "",
            "PAPITA_DATA_DIR": str(folder / "data"),
            "PAPITA_PORT": str(free_port()),
            "ALCHAT_PORT": str(free_port()),
        }
    )


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Databases and keys with one user in them, made once and copied for each test."""
    folder = tmp_path_factory.mktemp("house")
    services = wiring.make_services(settings_for(folder))
    services.papita.users.create(
        Actor.operator(), NewUser("ana", PASSWORD, "Ana", role="administrator")
    )
    services.close()
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> PortalSettings:
    return settings_for(tmp_path)


def _running(settings: PortalSettings) -> Iterator[Services]:
    built = wiring.make_services(settings)
    wiring.use(built)
    yield built
    wiring.use(None)
    built.close()


@pytest.fixture
def new_services(settings: PortalSettings) -> Iterator[Services]:
    """A portal that has no user yet."""
    yield from _running(settings)


@pytest.fixture
def services(settings: PortalSettings, house: Path, tmp_path: Path) -> Iterator[Services]:
    shutil.copytree(house, tmp_path, dirs_exist_ok=True)
    yield from _running(settings)


@pytest.fixture
def ana(services: Services) -> User:
    user = services.papita.users.by_username("ana")
    assert user is not None
    return user
