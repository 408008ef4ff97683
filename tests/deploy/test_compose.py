"""The compose file: hardened services that start in order, and secrets that are files."""

# ruff: noqa: S108 - what containers write to is what is tested here

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from alchat_core.settings import Settings as AlChatSettings
from papita_core.settings import Settings as PapitaSettings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_locked_down(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["tmpfs"] == ["/tmp"]
    assert "privileged" not in service
    assert service.get("user", "10001") != "root"


def test_the_services_are_the_two_targets() -> None:
    assert {s["build"]["target"] for s in SERVICES.values()} == {"portal", "alchat"}
    for service in SERVICES.values():
        assert (ROOT / "deploy" / service["build"]["context"]).resolve() == ROOT


def test_alchat_waits_for_a_healthy_portal() -> None:
    assert SERVICES["alchat"]["depends_on"] == {"portal": {"condition": "service_healthy"}}


def test_only_the_portal_is_published_and_only_to_this_machine_at_first() -> None:
    assert "ports" not in SERVICES["alchat"]
    assert SERVICES["portal"]["ports"] == ["${PAPITA_PUBLISH:-127.0.0.1:3000}:3000"]


def test_secrets_are_files_and_each_service_gets_what_it_needs() -> None:
    assert SERVICES["portal"]["secrets"] == ["master-key", "alchat-client-secret"]
    assert SERVICES["alchat"]["secrets"] == ["alchat-client-secret"]
    assert all(set(secret) == {"file"} for secret in COMPOSE["secrets"].values())
    for service in SERVICES.values():
        assert not {"PAPITA_MASTER_KEY", "ALCHAT_CLIENT_SECRET"} & set(service["environment"])


def test_no_volume_is_shared() -> None:
    volumes = [v.split(":")[0] for s in SERVICES.values() for v in s["volumes"]]
    assert sorted(volumes) == sorted(COMPOSE["volumes"])


def test_settings_are_known_and_the_services_find_each_other() -> None:
    known = set(PapitaSettings.names()) | {f.upper() for f in AlChatSettings.model_fields}
    known |= {"ALCHAT_URL", "PAPITA_API_URL"}
    for service in SERVICES.values():
        assert set(service["environment"]) <= known
    assert SERVICES["portal"]["environment"]["ALCHAT_URL"] == "http://alchat:8000"
    assert SERVICES["alchat"]["environment"]["PAPITA_API_URL"] == "http://portal:3000"


def run_up(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    tools = tmp_path / "bin"
    if not tools.exists():
        tools.mkdir()
        docker = tools / "docker"
        docker.write_text('#!/bin/sh\n[ "$*" = "compose version" ] || echo "docker $*"\n')
        docker.chmod(0o755)
        shutil.copytree(ROOT / "deploy", tmp_path / "deploy", ignore=keep_secrets_out)
    return subprocess.run(
        [str(tmp_path / "deploy" / "up"), *arguments],
        env={"PATH": f"{tools}:{os.defpath}"},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )


def keep_secrets_out(folder: str, names: list[str]) -> set[str]:
    return set(names) - {".gitignore"} if Path(folder).name == "secrets" else set()


def test_up_makes_the_secrets_once_and_starts(tmp_path: Path) -> None:
    first = run_up(tmp_path, "--detach")
    assert first.stdout.splitlines()[-1] == "docker compose --file compose.yaml up --build --detach"
    folder = tmp_path / "deploy" / "secrets"
    assert folder.stat().st_mode & 0o777 == 0o700
    made = {p.name: p.read_text() for p in folder.iterdir() if not p.name.startswith(".")}
    assert set(made) == set(COMPOSE["secrets"])
    assert {len(bytes.fromhex(text)) for text in made.values()} == {32}
    assert len(set(made.values())) == 2
    assert not any(text.strip() in first.stdout + first.stderr for text in made.values())

    second = run_up(tmp_path)
    assert second.stdout == "docker compose --file compose.yaml up --build\n"
    assert {p.name: p.read_text() for p in folder.iterdir() if p.name in made} == made


def test_secrets_are_kept_out_of_git() -> None:
    assert (ROOT / "deploy" / "secrets" / ".gitignore").read_text() == "*\n!.gitignore\n"
