"""Every setting, route, command, make target and error code is on a page of the documentation."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from alchat_core.api.app import create_app as create_alchat
from alchat_core.api.problems import _BY_STATUS
from alchat_core.errors import RUN_ERRORS, Refused
from alchat_core.settings import Settings as AlChatSettings
from papita_core.__main__ import parser
from papita_core.api.app import create_api
from papita_core.api.problems import PLAIN
from papita_core.app import build
from papita_core.errors import all_errors
from portal.settings import PortalSettings
from tests.system import ROOT

DOCS = ROOT / "docs"


def page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def routes(app: FastAPI, prefix: str = "") -> Iterator[str]:
    for path, methods in app.openapi()["paths"].items():
        for method in methods:
            yield f"{method.upper()} {prefix}{path}"


def tree(base: type[Refused]) -> Iterator[type[Refused]]:
    yield base
    for sub in base.__subclasses__():
        yield from tree(sub)


@pytest.mark.parametrize("name", [*PortalSettings.names(), "PAPITA_CONFIG"])
def test_setting_of_the_portal(name: str) -> None:
    assert f"`{name}`" in page("configuration.md")


@pytest.mark.parametrize("name", [field.upper() for field in AlChatSettings.model_fields])
def test_setting_of_al_chat(name: str) -> None:
    assert f"`{name}`" in page("configuration.md").split("## AL-Chat")[1]


def test_no_setting_that_is_not_there() -> None:
    known = {*PortalSettings.names(), *(name.upper() for name in AlChatSettings.model_fields)}
    written = set(re.findall(r"`((?:PAPITA|ALCHAT)_[A-Z_]+)`", page("configuration.md")))
    assert written - known == {"PAPITA_CONFIG"}


class _Runner:
    def url(self, project_id: str) -> str:
        raise AssertionError

    def ensure_running(self, project_id: str) -> None:
        raise AssertionError


def documented_routes(text: str) -> set[str]:
    found: set[str] = set()
    for cell in re.findall(r"^\| (`(?:GET|POST|PUT|PATCH|DELETE) [^|]*) \|", text, re.MULTILINE):
        for method, path in re.findall(r"`([A-Z]+) ([^`?]+)", cell):
            found.add(f"{method} {path}")
    return found


def test_routes_of_papita(tmp_path: Path) -> None:
    papita = build(PortalSettings.load({"PAPITA_DATA_DIR": str(tmp_path / "data")}))
    try:
        real = set(routes(create_api(papita, runner=_Runner()), "/api"))
    finally:
        papita.close()
    text = page("api.md").split("## AL-Chat")[0]
    assert documented_routes(text) == real | {"GET /healthz", "GET /readyz"}


def test_routes_of_al_chat() -> None:
    text = page("api.md").split("## AL-Chat")[1]
    assert documented_routes(text) == set(routes(create_alchat(AlChatSettings())))


@pytest.mark.parametrize(
    "code", sorted({error.code for error in all_errors()} | {code for code, _ in PLAIN.values()})
)
def test_error_code_of_papita(code: str) -> None:
    assert f"`{code}`" in page("api.md").split("## AL-Chat")[0]


@pytest.mark.parametrize(
    "code",
    sorted({error.code for error in tree(Refused)} | {code for code, _ in _BY_STATUS.values()}),
)
def test_error_code_of_al_chat(code: str) -> None:
    assert f"`{code}`" in page("api.md").split("### Error codes of AL-Chat")[1]


@pytest.mark.parametrize("code", sorted(RUN_ERRORS))
def test_reason_of_a_failed_answer(code: str) -> None:
    assert f"`{code}`" in page("api.md").split("### Why an answer fails")[1]


def commands(root: argparse.ArgumentParser) -> Iterator[str]:
    for group_name, group in _choices(root).items():
        if not _choices(group):
            yield group_name
        for name in _choices(group):
            yield f"{group_name} {name}"


def _choices(parent: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parent._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


@pytest.mark.parametrize("command", list(commands(parser())))
def test_command(command: str) -> None:
    assert f"`{command}" in page("command-line.md")


def test_make_targets() -> None:
    real = set(re.findall(r"^([a-z][a-z-]*):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^\| `make ([a-z-]+)`", page("command-line.md"), re.MULTILINE)) == real


@pytest.mark.parametrize("path", [*DOCS.rglob("*.md"), *ROOT.glob("*.md")], ids=str)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text("utf-8")):
        assert (path.parent / target).exists(), target
    for target in re.findall(r'(?:src|srcset)="(?!https?:)([^"]+)"', path.read_text("utf-8")):
        assert (path.parent / target).exists(), target
