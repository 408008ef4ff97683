"""Borrows the user's key from Papita for as long as one lease lasts.

The user token is exchanged for one that reads one credential (RFC 8693); with that the Papita API
lends the key. It is kept for the lease alone, in memory, and every failure has its own `RunError`.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from alchat_core.auth import User
from alchat_core.errors import RunError
from alchat_core.papita import PapitaAnswer, PapitaCallError, PapitaClient
from alchat_core.secret import Secret
from alchat_core.settings import CREDENTIAL_TYPE, PROJECT_ID, Settings

DEFAULT_BASE_URL = "https://api.openai.com/v1"
GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a type, not a token
MAX_LEASES = 1000


@dataclass(frozen=True, slots=True)
class Lease:
    """A borrowed key. `expires_at` is in seconds since 1970."""

    credential_id: str
    api_key: Secret
    base_url: str
    expires_at: float


class CredentialManager:
    """Built once per process."""

    def __init__(self, settings: Settings, papita: PapitaClient) -> None:
        self._papita = papita
        self._client_id = settings.alchat_client_id
        given = settings.alchat_client_secret
        self._client_secret = Secret(given.get_secret_value()) if given else None
        self._client_secret_path = settings.client_secret_path
        self._leases: OrderedDict[tuple[str, str], tuple[Lease, float]] = OrderedDict()
        self._pending: dict[tuple[str, str], asyncio.Task[Lease]] = {}

    async def lease(self, user: User) -> Lease:
        """The user's key, from the running lease if there is one. Raises `RunError`."""
        place = (user.id, user.ground_id)
        held = self._leases.get(place)
        if held is not None:
            lease, deadline = held
            # Both clocks must agree that it still runs: the wall clock may step back.
            if lease.expires_at > time.time() and deadline > time.monotonic():
                return lease
            del self._leases[place]
        task = self._pending.get(place)
        if task is None:
            task = asyncio.create_task(self._borrow(place, user))
            self._pending[place] = task
            task.add_done_callback(lambda _done: self._pending.pop(place, None))
        return await asyncio.shield(task)

    def drop(self, user: User) -> None:
        """Forgets the lease of this user's session."""
        self._leases.pop((user.id, user.ground_id), None)

    async def _borrow(self, place: tuple[str, str], user: User) -> Lease:
        lease: Lease = await self._papita.run(self._fetch, user)
        left = lease.expires_at - time.time()
        if left > 0:
            self._leases[place] = (lease, time.monotonic() + left)
            while len(self._leases) > MAX_LEASES:
                self._leases.popitem(last=False)
        return lease

    def _fetch(self, user: User) -> Lease:
        """Blocking: the exchange, then the credential."""
        try:
            exchanged = self._papita.request(
                "POST",
                "/api/token",
                auth=(quote(self._client_id, safe=""), self._secret()),
                data={
                    "grant_type": GRANT_TYPE,
                    "subject_token": user.token.reveal(),
                    "subject_token_type": ACCESS_TOKEN,
                    "scope": "credential:use",
                    "credential_type": CREDENTIAL_TYPE,
                },
            )
            _check(exchanged)
            token = exchanged.body.get("access_token")
            if not isinstance(token, str) or not token:
                raise RunError("papita-error")
            answer = self._papita.request(
                "GET",
                "/api/credentials",
                params={
                    "username": user.username,
                    "credentialType": CREDENTIAL_TYPE,
                    "projectId": PROJECT_ID,
                },
                headers={"Authorization": f"Bearer {token}"},
            )
        except PapitaCallError as error:
            raise RunError("papita-error" if error.reached else "papita-unreachable") from None
        _check(answer)
        return _read(answer.body)

    def _secret(self) -> str:
        if self._client_secret is not None:
            return quote(self._client_secret.reveal(), safe="")
        return quote(_read_file(self._client_secret_path), safe="")


def _read_file(path: Path) -> str:
    try:
        value = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        value = ""
    if not value:
        raise RunError(
            "papita-error",
            "AL-Chat has no client secret for Papita."
            " An administrator has to set ALCHAT_CLIENT_SECRET or ALCHAT_CLIENT_SECRET_FILE.",
            retryable=False,
        )
    return value


def _check(answer: PapitaAnswer) -> None:
    """Raises the `RunError` that a refusal of Papita stands for."""
    if answer.status == 200:
        return
    code = answer.body.get("code")
    oauth = answer.body.get("error")
    if code == "consent-required":
        raise RunError("consent-required", drop_lease=True)
    if code == "credential-not-found":
        raise RunError("credential-missing", drop_lease=True)
    if code == "credential-expired":
        raise RunError("credential-expired", drop_lease=True)
    if code == "vault-sealed":
        raise RunError("vault-sealed", retry_after=answer.retry_after)
    if answer.status == 429:
        raise RunError(
            "rate-limited",
            "Papita has lent your key too often in a short time. Wait a moment and try again.",
            retry_after=answer.retry_after,
        )
    if code == "invalid-client" or oauth == "invalid_client":
        raise RunError(
            "papita-error",
            "Papita does not accept AL-Chat's client secret. An administrator has to give both"
            " the same ALCHAT_CLIENT_SECRET.",
            retryable=False,
            drop_lease=True,
        )
    if oauth == "invalid_grant" or answer.status in (401, 403):
        raise RunError(
            "papita-error",
            "Your sign-in at Papita has ended or was renewed. Sign in again, then try again.",
            drop_lease=True,
        )
    raise RunError("papita-error", retry_after=answer.retry_after)


def _read(body: dict[str, Any]) -> Lease:
    try:
        credential = body["credentials"]
        key = credential["credentials"]["api_key"]
        base_url = credential.get("baseUrl") or DEFAULT_BASE_URL
        identity = credential["id"]
        expires = datetime.fromisoformat(body["lease"]["expiresAt"])
        texts = (key, base_url, identity)
        if not all(isinstance(text, str) and text for text in texts) or expires.tzinfo is None:
            raise ValueError
        expires_at = expires.timestamp()
        if not math.isfinite(expires_at):
            raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError):
        raise RunError("papita-error") from None
    if not key.isascii() or not key.isprintable() or " " in key:
        raise RunError("credential-rejected")
    return Lease(identity, Secret(key), base_url.rstrip("/"), expires_at)
