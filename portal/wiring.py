"""Builds everything that lives as long as the process, once.

The services are a plain value of this module rather than a `cache_resource`: any browser may send
Streamlit's "clear cache" message, signed in or not, and would take the resources of all others.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import requests

from alchat_core.client import AlChatClient
from papita_core.app import Papita, build
from papita_core.operations.housekeeping import Housekeeper, Housekeeping
from portal.launcher import Launcher, Service, python_module
from portal.settings import PortalSettings
from portal.turns import turns

T = TypeVar("T")

AL_CHAT = "al-chat"
ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "portal" / "assets"
MARK = ASSETS / "mark.svg"


@dataclass(frozen=True, slots=True)
class Services:
    """What pages and routes work with."""

    settings: PortalSettings
    papita: Papita
    alchat: AlChatClient
    launcher: Launcher
    housekeeper: Housekeeper

    def start(self) -> None:
        """Begins the work that nobody waits for: goes on with a rotation that a stop of the portal
        interrupted, and tidies up now and every hour.
        """
        threading.Thread(
            target=self.papita.rotation.resume, name="resume-rotation", daemon=True
        ).start()
        self.housekeeper.start()

    def close(self) -> None:
        """Ends that work, stops the projects that were started and lets go of the databases."""
        self.housekeeper.close()
        self.launcher.close()
        self.alchat.close()
        self.papita.close()


_lock = threading.Lock()
_services: Services | None = None


def services() -> Services:
    """The services of this process; the first call builds them."""
    global _services
    with _lock:
        if _services is None:
            _services = make_services(PortalSettings.load())
        return _services


def use(new: Services | None) -> None:
    """Puts services in place that were built elsewhere; None forgets them."""
    global _services
    with _lock:
        _services = new


def make_services(settings: PortalSettings) -> Services:
    """Migrates, opens the vault and connects; nothing is started yet."""
    papita = build(settings)
    alchat = _AlChat(settings.alchat_origin)
    return Services(
        settings,
        papita,
        alchat,
        _launcher(settings, alchat),
        Housekeeper(Housekeeping(papita.database, papita.rotation.rotate_signing_if_due)),
    )


class _AlChat(AlChatClient):
    """A page that waits for AL-Chat leaves its turn to others."""

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        with turns.pause():
            return super().wait_for(work)

    def answer(self, *given: Any, **more: Any) -> requests.Response:
        with turns.pause():
            return super().answer(*given, **more)


def _launcher(settings: PortalSettings, alchat: AlChatClient) -> Launcher:
    service = Service(AL_CHAT, "AL-Chat", settings.alchat_origin, alchat)
    if settings.starts_alchat:
        service = Service(
            AL_CHAT,
            "AL-Chat",
            settings.alchat_origin,
            alchat,
            command=python_module("alchat_core"),
            environment=_alchat_environment(settings),
        )
    return Launcher([service], settings.data_dir.absolute())


# What an AL-Chat that the portal starts gets of the portal's environment.
_OWN = ("ALCHAT_", "OTEL_")


def _alchat_environment(settings: PortalSettings) -> dict[str, str]:
    host, port = settings.alchat_address
    own = {name: value for name, value in os.environ.items() if name.startswith(_OWN)}
    own.pop("ALCHAT_URL", None)
    given = {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        "ALCHAT_HOST": "127.0.0.1" if host == "localhost" else host,
        "ALCHAT_PORT": str(port),
        "PAPITA_API_URL": settings.local_api_url,
        "PAPITA_DATA_DIR": str(settings.data_dir.absolute()),
        "PAPITA_PROVIDER_ALLOWLIST": ",".join(settings.provider_allowlist),
    }
    config = os.environ.get("PAPITA_CONFIG")
    if config:
        given["PAPITA_CONFIG"] = str(Path(config).absolute())
    return own | given
