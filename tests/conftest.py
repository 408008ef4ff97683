"""What tests of all folders share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from playwright.sync_api import Browser, sync_playwright
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from tests.browser_binary import FLAGS, find_browser
from tests.papita_core.postgres import Postgres, shared_server
from tests.system import System

# The same examples in every run, so that a failure is the fault of the change that brought it.
# `pytest --hypothesis-profile=default` looks for new ones.
hypothesis.settings.register_profile("suite", derandomize=True, deadline=None)
hypothesis.settings.load_profile("suite")


# Files that use `shared_system`: one worker runs them all, and starts that system once.
SHARING = tuple(
    f"browser/test_{name}.py"
    for name in ("chat_history", "chat_writing", "chat_steering", "chat_dictation", "languages")
)
# Files that take long by themselves begin first, so that no worker is left alone with one.
LONGEST = (
    *SHARING,
    "browser/test_failures.py",
    "browser/test_vault.py",
    "browser/test_chat_reading.py",
    "browser/test_walk.py",
    "browser/test_second_factor.py",
    "browser/test_single_sign_on.py",
    "browser/test_profile.py",
    "browser/test_sign_in.py",
    "browser/test_first_request.py",
    "papita_core/operations/test_backup.py",
    "alchat_core/test_real_servers.py",
    "alchat_core/test_faults.py",
    "alchat_core/test_schemathesis.py",
    "papita_core/api/test_schemathesis.py",
    "alchat_core/",
    "papita_core/vault/",
)
# A browser keeps more than a core busy, so those files are spread among the others, but not to the
# very end.
OTHERS_BETWEEN_BROWSERS = 6


class Scheduling(LoadFileScheduling):
    """A file is run by one worker, and so are all files that share the running system."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return SHARING[0] if file.endswith(SHARING) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    return Scheduling(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_turn)
    files = list(dict.fromkeys(item.path for item in items))
    browsers = [path for path in files if "/tests/browser/" in path.as_posix()]
    others = [path for path in files if path not in browsers]
    for number, path in enumerate(browsers):
        others.insert(number * (OTHERS_BETWEEN_BROWSERS + 1), path)
    place = {path: number for number, path in enumerate(others)}
    items.sort(key=lambda item: place[item.path])


def _turn(item: pytest.Item) -> int:
    place = item.path.as_posix()
    found = (turn for turn, name in enumerate(LONGEST) if f"/tests/{name}" in place)
    return next(found, len(LONGEST))


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> None:
    """No setting of whoever runs the tests reaches them."""
    for name in list(os.environ):
        if name.startswith(("PAPITA_", "ALCHAT_")):
            del os.environ[name]


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """One server for all workers of the run."""
    base = tmp_path_factory.getbasetemp()
    with shared_server(base.parent if base.name.startswith("popen-") else base) as server:
        yield server


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Portal and provider, as real processes; the portal starts AL-Chat when it is opened."""
    with System(Path(tmp_path_factory.mktemp("system"))) as running:
        yield running


@pytest.fixture(scope="session")
def shared_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """All of it running, for files whose users are their own and who leave it as it was."""
    with System(Path(tmp_path_factory.mktemp("shared")), alchat=True) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = find_browser()
    if path is None:
        pytest.fail("no Chromium here: run `make test`, which installs one")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield chromium
        chromium.close()
