"""Chromium's virtual authenticator, over the DevTools protocol, and codes as an app shows them."""

from __future__ import annotations

import time
from typing import Any

import pyotp
from playwright.sync_api import Page

from tests.browser.people import SECONDS


class VirtualAuthenticator:
    """One that is built into the page's device and says yes by itself, as long as `verified`."""

    def __init__(self, page: Page) -> None:
        self._cdp = page.context.new_cdp_session(page)
        self._cdp.send("WebAuthn.enable", {"enableUI": False})
        options = {
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
            "automaticPresenceSimulation": True,
        }
        made = self._cdp.send("WebAuthn.addVirtualAuthenticator", {"options": options})
        self._id = made["authenticatorId"]

    def verified(self, yes: bool) -> None:
        """Whether its user types the right PIN from now on."""
        self._cdp.send(
            "WebAuthn.setUserVerified", {"authenticatorId": self._id, "isUserVerified": yes}
        )

    def credentials(self) -> list[dict[str, Any]]:
        """All that it holds, private keys as well."""
        found = self._cdp.send("WebAuthn.getCredentials", {"authenticatorId": self._id})
        return list(found["credentials"])

    def hold(self, credential: dict[str, Any]) -> None:
        """Takes in a copy of what another one holds, in place of what it held."""
        self._cdp.send("WebAuthn.clearCredentials", {"authenticatorId": self._id})
        self._cdp.send(
            "WebAuthn.addCredential", {"authenticatorId": self._id, "credential": credential}
        )


def steady(page: Page) -> float:
    """Now, at a moment when the codes of an app stay the same for a while."""
    while time.time() % 30 > 18:
        page.wait_for_timeout(0.5 * SECONDS)
    return time.time()


def code(totp: pyotp.TOTP, now: float, steps: int = 0) -> str:
    """What the app shows, that many steps from now."""
    return totp.at(int(now) + 30 * steps)
