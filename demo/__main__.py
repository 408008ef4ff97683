"""`python -m demo`: the portal with a demo user and the scripted provider; no key, no internet.

Everything lies in `.demo/` (or in PAPITA_DATA_DIR), apart from the data of a real installation, and
listens on this machine alone, since the demo user's password is printed here for everybody.
"""

from __future__ import annotations

import ipaddress
import os
import signal
import subprocess
import sys
from pathlib import Path

from papita_core.actors import Actor
from papita_core.app import Papita, build
from papita_core.errors import PapitaError
from papita_core.settings import SettingsError
from papita_core.users.service import NewUser
from papita_core.vault.service import NewCredential, ReplaceCredential
from portal.__main__ import main as portal
from portal.settings import PortalSettings

USERNAME = "demo"
PASSWORD = "try-papita-here"  # noqa: S105 - printed on the screen, and good on this machine alone
KEY = "sk-demo-hears-0000000000000000"  # so that dictation is offered
LABEL = "Scripted provider"


def main() -> int:
    os.environ.setdefault("PAPITA_DATA_DIR", str(Path(".demo") / "data"))
    try:
        settings = PortalSettings.load()
    except SettingsError as error:
        return _refuse(str(error))
    if not _is_local(settings.host):
        return _refuse("PAPITA_HOST: the demo listens on this machine alone; use make run instead")
    provider, origin = _start_provider()
    try:
        allowed = [*settings.provider_allowlist, origin]
        os.environ["PAPITA_PROVIDER_ALLOWLIST"] = ",".join(allowed)
        try:
            papita = build(PortalSettings.load())
            try:
                _seed(papita, f"{origin}/v1")
            finally:
                papita.close()
        except (SettingsError, PapitaError) as error:
            return _refuse(str(error))
        print(
            "This is the demo: a scripted provider answers, no key and no internet are needed.\n"
            f"  sign in as     {USERNAME}\n"
            f"  password       {PASSWORD}\n"
            f"  provider       {origin}/v1 takes any key that begins with sk-demo-\n",
            flush=True,
        )
        return portal()
    finally:
        provider.send_signal(signal.SIGTERM)
        provider.wait(timeout=10)


def _seed(papita: Papita, base_url: str) -> None:
    """Makes the demo user and its key; a key of an earlier run follows the provider's new port."""
    operator = Actor.operator()
    user = papita.users.by_username(USERNAME)
    if user is None:
        user = papita.users.create(
            operator, NewUser(USERNAME, PASSWORD, "Demo user", role="administrator")
        )
    actor = Actor(user.id, user.username, user.role)
    mine = [item for item in papita.credentials.list(actor).items if item.label == LABEL]
    secret = {"api_key": KEY}
    if not mine:
        papita.credentials.create(
            actor, NewCredential("openai", secret, label=LABEL, base_url=base_url)
        )
    elif mine[0].base_url != base_url:
        papita.credentials.replace(
            actor,
            mine[0].id,
            ReplaceCredential(label=LABEL, base_url=base_url, secret=secret),
            etag=mine[0].etag,
        )


def _start_provider() -> tuple[subprocess.Popen[str], str]:
    """The provider's process and its origin, once it listens."""
    provider = subprocess.Popen(
        [sys.executable, "-m", "demo.provider", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    line = provider.stdout.readline() if provider.stdout else ""
    origin = line.rsplit(" ", 1)[-1].strip().removesuffix("/v1")
    if not origin:
        raise SystemExit("demo: the scripted provider did not start")
    return provider, origin


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refuse(sentence: str) -> int:
    print(f"demo: {sentence}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
