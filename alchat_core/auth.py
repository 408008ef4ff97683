"""Who is calling: verifies the user tokens that Papita issues for AL-Chat.

One function decides (`Verifier.verify`). EdDSA only, our own check of `typ`, every claim required;
an unknown key id makes the keys be fetched again, but not more often than every few seconds.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import jwt

from alchat_core.errors import PapitaUnreachable, Unauthenticated
from alchat_core.papita import PapitaCallError, PapitaClient
from alchat_core.secret import Secret
from alchat_core.settings import PROJECT_ID

ISSUER = "papita"
SCOPE = "chat"
JWKS_PATH = "/api/.well-known/jwks.json"
CLAIMS = ("iss", "aud", "sub", "preferred_username", "jti", "iat", "exp", "scope")
# A token rests on a sign-in session or on a personal access token: on one of the two.
GROUNDS = ("sid", "pat")
LEEWAY_SECONDS = 5
REFETCH_SECONDS = 5.0
MAX_KEY_AGE_SECONDS = 3600.0
MAX_TOKEN_CHARS = 4096
REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class User:
    """Who is calling, and the token that AL-Chat may exchange on their behalf.

    `ground_id` names the sign-in session or personal access token on which that token rests.
    """

    id: str
    username: str
    ground_id: str
    token: Secret
    expires_at: float


class Verifier:
    """Built once per process."""

    def __init__(self, papita: PapitaClient) -> None:
        self._papita = papita
        self._keys: dict[str, Any] = {}
        self._fetched = float("-inf")
        self._tried = float("-inf")
        self._turn = asyncio.Lock()
        self._seen: OrderedDict[bytes, User] = OrderedDict()

    async def verify(self, authorization: str | None) -> User:
        """The user of an `Authorization` header.

        Raises `Unauthenticated`, or `PapitaUnreachable` if there are no keys to check with.
        """
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN_CHARS:
            raise Unauthenticated
        digest = hashlib.sha256(token.encode()).digest()
        user = self._seen.get(digest)
        if user is not None:
            if user.expires_at <= time.time():
                del self._seen[digest]
                raise Unauthenticated
            return user
        user = await self._verify(token)
        self._seen[digest] = user
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return user

    async def _verify(self, token: str) -> User:
        try:
            header = jwt.get_unverified_header(token)
            kind, algorithm, kid = header.get("typ"), header.get("alg"), header.get("kid")
            if kind != "at+jwt" or algorithm != "EdDSA" or not isinstance(kid, str):
                raise Unauthenticated
            claims: dict[str, Any] = jwt.decode(
                token,
                await self._key(kid),
                algorithms=["EdDSA"],
                audience=PROJECT_ID,
                issuer=ISSUER,
                leeway=LEEWAY_SECONDS,
                options={"require": list(CLAIMS), "strict_aud": True},
            )
        except jwt.PyJWTError:
            raise Unauthenticated from None
        grounds = [claims[name] for name in GROUNDS if name in claims]
        if len(grounds) != 1:
            raise Unauthenticated
        texts = [claims[name] for name in ("sub", "preferred_username", "jti", "scope")] + grounds
        if not all(isinstance(text, str) and 0 < len(text) <= 200 for text in texts):
            raise Unauthenticated
        if SCOPE not in claims["scope"].split():
            raise Unauthenticated
        return User(
            id=claims["sub"],
            username=claims["preferred_username"],
            ground_id=grounds[0],
            token=Secret(token),
            expires_at=float(claims["exp"]),
        )

    async def _key(self, kid: str) -> Any:
        async with self._turn:
            now = time.monotonic()
            stale = now - self._fetched > MAX_KEY_AGE_SECONDS
            if (stale or kid not in self._keys) and now - self._tried > REFETCH_SECONDS:
                try:
                    await self._fetch()
                except PapitaCallError:
                    if not self._keys:
                        raise PapitaUnreachable from None
                else:
                    self._tried = now
            if not self._keys:
                raise PapitaUnreachable
        key = self._keys.get(kid)
        if key is None:
            raise Unauthenticated
        return key

    async def _fetch(self) -> None:
        answer = await self._papita.request("GET", JWKS_PATH)
        found = answer.body.get("keys")
        if answer.status != 200 or not isinstance(found, list):
            raise PapitaCallError(reached=True)
        keys = {}
        for item in found:
            if not isinstance(item, dict) or not isinstance(item.get("kid"), str):
                continue
            if item.get("kty") != "OKP" or item.get("crv") != "Ed25519":
                continue
            try:
                keys[item["kid"]] = jwt.PyJWK(item, algorithm="EdDSA").key
            except jwt.PyJWTError:
                continue
        self._keys = keys
        self._fetched = time.monotonic()

    async def papita_ready(self) -> bool:
        """Whether Papita answers now; a short time-out."""
        try:
            answer = await self._papita.request("GET", JWKS_PATH, within=2.0)
        except PapitaCallError:
            return False
        return bool(answer.status == 200)
