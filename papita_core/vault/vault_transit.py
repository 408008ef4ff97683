"""A master key that HashiCorp Vault keeps: PAPITA_MASTER_KEY_URI=vault-transit:<mount>/<key>.

Two requests of the Transit engine's API, so no client library. The address is VAULT_ADDR, the token
VAULT_TOKEN or the file `~/.vault-token`, which a Vault agent keeps fresh; VAULT_NAMESPACE and
VAULT_CACERT are heeded. The key has to be of a type with associated data, as aes256-gcm96 is. The
token's policy has to allow `update` on `<mount>/encrypt/<key>` and `<mount>/decrypt/<key>`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import requests

from papita_core.errors import MasterKeyUnavailable
from papita_core.settings import SettingsError
from papita_core.vault import crypto
from papita_core.vault.master_key import bound

TIMEOUT = (3, 5)  # seconds to connect, and for an answer
LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class VaultTransitMasterKey:
    """Wraps with `encrypt` of the Transit engine; what it is bound to is the associated data."""

    def __init__(self, path: str, environment: Mapping[str, str] | None = None) -> None:
        self.source = f"vault-transit:{path}"
        self._environment = os.environ if environment is None else environment
        self._mount, _, self._key = path.rpartition("/")
        address = self._environment.get("VAULT_ADDR", "").rstrip("/")
        if not address:
            raise SettingsError("VAULT_ADDR: vault-transit needs the address of Vault")
        parts = urlsplit(address)
        if parts.scheme != "https" and not (
            parts.scheme == "http" and parts.hostname in LOOPBACK  # root keys would go in clear
        ):
            raise SettingsError("VAULT_ADDR: the address must begin with https://")
        self._address = address
        self._id = hashlib.sha256(self.source.encode()).digest()[: crypto.KEY_ID_BYTES]

    @property
    def key_id(self) -> bytes:
        return self._id

    def wrap(self, root_key: bytes, context: tuple[bytes, ...]) -> bytes:
        status, answer = self._ask("encrypt", {"plaintext": _text(root_key)}, context)
        ciphertext = answer.get("ciphertext")
        if status != 200 or not isinstance(ciphertext, str):
            raise self._unavailable(f"it answers with status {status}")
        return ciphertext.encode()

    def unwrap(self, wrapped: bytes, context: tuple[bytes, ...]) -> bytes:
        try:
            ciphertext = wrapped.decode("ascii")
        except UnicodeDecodeError:
            raise crypto.EnvelopeError("Vault did not wrap this") from None
        status, answer = self._ask("decrypt", {"ciphertext": ciphertext}, context)
        if status == 400 and "key not found" not in str(answer):
            raise crypto.EnvelopeError("Vault did not wrap this, or not here")
        try:
            if status == 200:
                return base64.b64decode(answer["plaintext"], validate=True)
        except (KeyError, TypeError, binascii.Error):
            pass
        raise self._unavailable(f"it answers with status {status}")

    def _ask(
        self, verb: str, body: dict[str, str], context: tuple[bytes, ...]
    ) -> tuple[int, dict[str, Any]]:
        """The status, and the answer's `data` or, in case of an error, all of it."""
        headers = {"X-Vault-Token": self._token(), "X-Vault-Request": "true"}
        if namespace := self._environment.get("VAULT_NAMESPACE"):
            headers["X-Vault-Namespace"] = namespace
        try:
            answer = requests.post(
                f"{self._address}/v1/{quote(self._mount)}/{verb}/{quote(self._key, safe='')}",
                json={**body, "associated_data": _text(bound(context))},
                headers=headers,
                timeout=TIMEOUT,
                allow_redirects=False,  # the token would go along
                verify=self._environment.get("VAULT_CACERT") or True,
            )
            document = answer.json()
            found = document["data"] if answer.status_code == 200 else document
        except (requests.exceptions.JSONDecodeError, KeyError, TypeError):
            return answer.status_code, {}
        except (requests.RequestException, OSError) as error:
            raise self._unavailable(type(error).__name__) from None
        return answer.status_code, found if isinstance(found, dict) else {}

    def _token(self) -> str:
        token = self._environment.get("VAULT_TOKEN")
        try:
            token = token or (Path.home() / ".vault-token").read_text("utf-8")
        except (OSError, RuntimeError, UnicodeDecodeError):
            raise self._unavailable("there is no VAULT_TOKEN and no ~/.vault-token") from None
        token = token.strip()
        if not token.isascii() or not token.isprintable():
            raise self._unavailable("the token has signs that no token has")
        return token

    def _unavailable(self, reason: str) -> MasterKeyUnavailable:
        return MasterKeyUnavailable(
            f"Vault does not open the master key: {reason}. Check that it can be reached from here"
            " and is unsealed, that the key is there, and that the token may encrypt and decrypt"
            " with it."
        )


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()
