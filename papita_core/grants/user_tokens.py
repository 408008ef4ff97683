"""User tokens: short JWTs (RFC 9068) with which the portal calls a project in a user's name.

Signed with Ed25519 by a key of its own; the public keys, the next one included, are published as a
JWK set, so a project verifies tokens by itself. A user token opens no credential.
"""

from __future__ import annotations

import base64
import secrets
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm
from sqlalchemy import or_, select

from papita_core.actors import Actor
from papita_core.clock import Clock, utc_now
from papita_core.db import Database
from papita_core.vault.keyring import USER_TOKEN, KeyRing
from papita_core.vault.models import PurposeKey

ISSUER = "papita"
TYPE = "at+jwt"
LIFE = timedelta(minutes=5)
PUBLISHED = timedelta(days=1)  # how long a retired key still verifies
READ_EVERY = timedelta(seconds=10)  # the public keys, for what verifies here
REQUIRED = ["iss", "aud", "sub", "preferred_username", "jti", "iat", "exp", "scope"]


class TokenInvalid(Exception):
    """Not a user token of ours for this audience, or not any more."""


@dataclass(frozen=True, slots=True)
class UserToken:
    token: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Claims:
    """Whom a verified token speaks for, and on which sign-in or access token it rests."""

    user_id: str
    username: str
    session_id: str | None
    access_token_id: str | None


class UserTokens:
    def __init__(self, database: Database, ring: KeyRing, clock: Clock = utc_now) -> None:
        self._database = database
        self._ring = ring
        self._clock = clock
        self._signer: tuple[str, Ed25519PrivateKey] | None = None
        # Replaced, never changed in place: readers take no lock.
        self._seen: tuple[datetime, dict[str, Any]] = (datetime.min.replace(tzinfo=UTC), {})
        self._reading = threading.Lock()

    def issue(self, actor: Actor, audience: str) -> UserToken:
        """Raises `VaultSealed`."""
        kid, key = self._signing_key()
        now = self._clock()
        expires_at = now + LIFE
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": audience,
            "sub": actor.user_id,
            "preferred_username": actor.username,
            "jti": secrets.token_hex(16),
            "iat": int(now.timestamp()),
            "exp": int(expires_at.timestamp()),
            "scope": "chat",
        }
        if actor.session_id is not None:
            claims["sid"] = actor.session_id
        if actor.token_id is not None:
            claims["pat"] = actor.token_id
        token = jwt.encode(claims, key, "EdDSA", headers={"typ": TYPE, "kid": kid})
        return UserToken(token, expires_at)

    def verify(self, token: str, audience: str) -> Claims:
        """Raises `TokenInvalid` for whatever is not exactly right."""
        try:
            header = jwt.get_unverified_header(token)
            if header.get("typ") != TYPE or header.get("alg") != "EdDSA":
                raise TokenInvalid
            public = self._public_key(str(header.get("kid")))
            claims = jwt.decode(
                token,
                public,
                algorithms=["EdDSA"],
                audience=audience,
                issuer=ISSUER,
                # The times are checked below, by our clock; one that another replica's clock, a
                # little ahead, has put into the future is none the worse for it.
                options={
                    "require": REQUIRED,
                    "strict_aud": True,
                    "verify_exp": False,
                    "verify_iat": False,
                },
            )
        except (jwt.PyJWTError, UnicodeError):
            raise TokenInvalid from None
        if not isinstance(claims["exp"], int) or claims["exp"] <= self._clock().timestamp():
            raise TokenInvalid
        session_id, access_token_id = claims.get("sid"), claims.get("pat")
        if (session_id is None) == (access_token_id is None):
            raise TokenInvalid
        return Claims(claims["sub"], claims["preferred_username"], session_id, access_token_id)

    def jwks(self) -> dict[str, Any]:
        """RFC 7517 key set: the active key, the next one and those retired within a day."""
        since = self._clock() - PUBLISHED
        with self._database.read() as session:
            rows = session.execute(
                select(PurposeKey.kid, PurposeKey.public)
                .where(
                    PurposeKey.purpose == USER_TOKEN,
                    PurposeKey.public.is_not(None),
                    or_(
                        PurposeKey.state.in_(("active", "next")),
                        (PurposeKey.state == "retired") & (PurposeKey.retired_at > since),
                    ),
                )
                .order_by(PurposeKey.created_at)
            ).all()
        return {
            "keys": [
                {
                    "kty": "OKP",
                    "crv": "Ed25519",
                    "alg": "EdDSA",
                    "use": "sig",
                    "kid": row.kid,
                    "x": base64.urlsafe_b64encode(bytes.fromhex(row.public)).decode().rstrip("="),
                }
                for row in rows
            ]
        }

    def _signing_key(self) -> tuple[str, Ed25519PrivateKey]:
        self._ring.refresh()  # another process may have rotated the key
        kid, raw = self._ring.purpose_key(USER_TOKEN)
        if self._signer is None or self._signer[0] != kid:
            self._signer = (kid, Ed25519PrivateKey.from_private_bytes(raw))
        return self._signer

    def _public_key(self, kid: str) -> Any:
        keys = self._known()
        if kid not in keys:
            with self._reading:
                # Of many that find the keys too old at once, one reads them for all.
                keys = self._known()
                if kid not in keys:
                    keys = self._read()
        if kid not in keys:
            raise TokenInvalid
        return keys[kid]

    def _known(self) -> dict[str, Any]:
        """The public keys by id, as they were read a moment ago; none where that is too long ago.

        So a key that verifies no longer, or that another process has deleted, does so for ten
        seconds at most, and one that is not known yet is looked up at once.
        """
        at, keys = self._seen
        # A clock that was set back makes nothing last longer.
        return keys if timedelta(0) <= self._clock() - at < READ_EVERY else {}

    def _read(self) -> dict[str, Any]:
        now = self._clock()
        keys = {}
        for key in self.jwks()["keys"]:
            with suppress(jwt.PyJWTError):  # a damaged one is no reason to refuse the others
                keys[key["kid"]] = OKPAlgorithm.from_jwk(key)
        self._seen = now, keys
        return keys
