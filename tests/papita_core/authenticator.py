"""An authenticator in software, with all that a real one would never do, and an app for codes."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from dataclasses import dataclass, field
from typing import Any

import pyotp
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from webauthn.helpers import encode_cbor

from papita_core.actors import Actor
from tests.papita_core.house import House

ORIGIN = "http://localhost:3000"
RP_ID = "localhost"


def b64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


@dataclass
class Authenticator:
    """Holds one passkey. `count` None: it has no counter, as passkeys that are synced."""

    count: int | None = 0
    verifies: bool = True
    id: bytes = field(default_factory=lambda: os.urandom(32))
    handle: bytes = b""
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    def create(
        self, options: dict[str, Any], *, origin: str = ORIGIN, rp_id: str = RP_ID, alg: int = -7
    ) -> str:
        """The answer to `navigator.credentials.create`, as JSON."""
        self.handle = base64.urlsafe_b64decode(options["user"]["id"] + "==")
        numbers = self.key.public_key().public_numbers()
        public = encode_cbor(
            {
                1: 2,
                3: alg,
                -1: 1,
                -2: numbers.x.to_bytes(32, "big"),
                -3: numbers.y.to_bytes(32, "big"),
            }
        )
        data = self._data(rp_id, attested=True)
        data += bytes(16) + len(self.id).to_bytes(2, "big") + self.id + public
        client = _client("webauthn.create", options["challenge"], origin)
        return json.dumps(
            {
                "id": b64(self.id),
                "rawId": b64(self.id),
                "type": "public-key",
                "response": {
                    "clientDataJSON": b64(client),
                    "attestationObject": b64(
                        encode_cbor({"fmt": "none", "attStmt": {}, "authData": data})
                    ),
                    "transports": ["internal", "hybrid", "made-up"],
                },
            }
        )

    def get(
        self,
        options: dict[str, Any],
        *,
        origin: str = ORIGIN,
        rp_id: str = RP_ID,
        kind: str = "webauthn.get",
        key: ec.EllipticCurvePrivateKey | None = None,
        handle: bytes | None = None,
    ) -> str:
        """The answer to `navigator.credentials.get`, as JSON; the counter goes on by one."""
        if self.count is not None:
            self.count += 1
        data = self._data(rp_id)
        client = _client(kind, options["challenge"], origin)
        signed = data + hashlib.sha256(client).digest()
        return json.dumps(
            {
                "id": b64(self.id),
                "rawId": b64(self.id),
                "type": "public-key",
                "response": {
                    "clientDataJSON": b64(client),
                    "authenticatorData": b64(data),
                    "signature": b64((key or self.key).sign(signed, ec.ECDSA(hashes.SHA256()))),
                    "userHandle": b64(self.handle if handle is None else handle),
                },
            }
        )

    def _data(self, rp_id: str, *, attested: bool = False) -> bytes:
        flags = 0x01 | (0x04 if self.verifies else 0) | (0x40 if attested else 0)
        count = (self.count or 0).to_bytes(4, "big")
        return hashlib.sha256(rp_id.encode()).digest() + bytes([flags]) + count


def _client(kind: str, challenge: str, origin: str) -> bytes:
    return json.dumps(
        {"type": kind, "challenge": challenge, "origin": origin, "crossOrigin": False}
    ).encode()


def passkey(house: House, actor: Actor, name: str = "Laptop", **how: Any) -> Authenticator:
    """A passkey that the actor has registered."""
    made = Authenticator(**how)
    question = house.papita.passkeys.ask_to_register(actor)
    house.papita.passkeys.register(actor, question, made.create(question.options), name)
    return made


def app(house: House, actor: Actor) -> pyotp.TOTP:
    """An authenticator app that the actor has taken into use, some minutes ago."""
    found = pyotp.TOTP(house.papita.totp.begin(actor).secret)
    house.papita.totp.confirm(actor, found.at(house.clock()))
    house.clock.forward(seconds=90)
    return found
