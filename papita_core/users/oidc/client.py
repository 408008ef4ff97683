"""One OpenID Connect provider, as a confidential client of it sees it.

OpenID Connect Core 1.0 (code flow), Discovery 1.0, PKCE (RFC 7636, S256), the `iss` parameter of
answers (RFC 9207) and Back-Channel Logout 1.0. Nothing is taken from a token before its signature,
made with a published key and an algorithm of `ALGORITHMS`, and its claims are verified. Raises
`Refused`, whose reason says which side is at fault; the log has a line for whoever runs the portal
and repeats nothing of what was sent.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, TypeGuard

import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oidc.core import CodeIDToken
from authlib.oidc.discovery import get_well_known_url
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from papita_core.clock import Clock
from papita_core.outbound import ca_file
from papita_core.users.oidc.errors import LogoutTokenRefused, Reason, Refused
from papita_core.users.oidc.providers import Provider, usable

log = logging.getLogger(__name__)

# Signatures that only the provider can make: no HS*, whose key is the client's secret, no `none`.
ALGORITHMS: Final[Mapping[str, str]] = {
    **{f"{family}{size}": "RSA" for family in ("RS", "PS") for size in (256, 384, 512)},
    **{f"ES{size}": "EC" for size in (256, 384, 512)},
    "EdDSA": "OKP",
    "Ed25519": "OKP",
}
LEEWAY = 60  # seconds by which clocks may differ
METADATA_STAYS = timedelta(hours=1)
KEYS_STAY = timedelta(minutes=10)
# Anybody may send a token that names an unknown key.
UNKNOWN_KEY_EVERY = timedelta(seconds=30)
# A provider that is down is not asked again by everybody who comes.
FAILURE_STAYS = timedelta(seconds=10)
LOGOUT_TOKEN_LIFE = timedelta(minutes=10)
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
TIMEOUT = (5.0, 10.0)
TOTAL_SECONDS = 15.0
MAX_BYTES = 1024 * 1024
MAX_TOKEN = 64 * 1024
MAX_NAME = 300  # characters of a subject or a session id
MIN_RSA_N = 342  # characters of base64url that 2048 bits take


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the provider's discovery document says; checked."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None
    end_session_endpoint: str | None
    sends_iss: bool
    algorithms: frozenset[str]
    token_auth: str


@dataclass(frozen=True, slots=True)
class Tokens:
    """A verified id token's claims, and what asks for more of them."""

    claims: Mapping[str, Any] = field(repr=False)
    access_token: str = field(repr=False)

    @property
    def subject(self) -> str:
        return str(self.claims["sub"])

    @property
    def sid(self) -> str | None:
        return _name(self.claims.get("sid"))


@dataclass(frozen=True, slots=True)
class LogoutToken:
    """Whose sessions the provider has ended: those of `sid`, or all of `subject`."""

    issuer: str
    subject: str | None
    sid: str | None
    jti: str


class ProviderClient:
    """Threads may share it. What the provider says of itself is kept for a while."""

    def __init__(self, provider: Provider, redirect_uri: str, clock: Clock) -> None:
        self.provider = provider
        self._redirect_uri = redirect_uri
        self._clock = clock
        self._lock = threading.Lock()
        self._metadata: tuple[Metadata, datetime] | None = None
        self._keys: tuple[list[Key], datetime] | None = None
        self._failed: tuple[Reason, datetime] | None = None

    # --- the flow ---

    def authorization_url(
        self, *, state: str, nonce: str, verifier: str, again: bool = False
    ) -> str:
        """Where the browser goes. `again`: the user has to prove anew who they are."""
        asked: dict[str, Any] = {}
        if again:
            asked = {"prompt": "login", "max_age": 0}
        elif self.provider.prompt is not None:
            asked = {"prompt": self.provider.prompt}
        url, _ = self._session().create_authorization_url(
            self.metadata().authorization_endpoint,
            state=state,
            nonce=nonce,
            code_verifier=verifier,
            **asked,
        )
        return str(url)

    def check_answer(self, iss: str | None) -> None:
        """Whether the answer that came through the browser is this provider's (RFC 9207)."""
        if iss is None and not self.metadata().sends_iss:
            return
        if iss != self.provider.issuer:
            raise self._not_verified("an answer that another provider gave, or nobody")

    def trade(self, code: str, *, verifier: str, nonce: str, since: datetime | None) -> Tokens:
        """The tokens for a code. `since`: the user has to have signed in there after it."""
        metadata = self.metadata()
        session = self._session(metadata.token_auth)
        session.register_compliance_hook("access_token_response", _read)
        try:
            answer = session.fetch_token(
                metadata.token_endpoint,
                grant_type="authorization_code",
                code=code,
                code_verifier=verifier,
                allow_redirects=False,
                stream=True,
                timeout=TIMEOUT,
            )
        except OAuthError as error:
            if error.error in ("invalid_client", "unauthorized_client"):
                raise self._misconfigured(
                    "it does not accept client_id and client_secret"
                ) from None
            raise self._not_verified("a code that its provider does not know") from None
        except requests.RequestException:
            raise self._unreachable("its token endpoint does not answer") from None
        except ValueError:
            raise self._not_verified("an answer of the token endpoint that is no JSON") from None
        id_token, access_token = answer.get("id_token"), answer.get("access_token")
        if not isinstance(id_token, str) or not isinstance(access_token, str):
            raise self._not_verified("an answer without an id token")
        if str(answer.get("token_type", "")).lower() != "bearer":
            raise self._not_verified("a token of a strange type")
        claims = self._id_token(id_token, nonce, access_token)
        if since is not None:
            self._signed_in_since(claims, since)
        return Tokens(claims, access_token)

    def userinfo(self, tokens: Tokens) -> dict[str, Any]:
        """More claims of the same subject; none where the provider has no such endpoint."""
        address = self.metadata().userinfo_endpoint
        if address is None:
            return {}
        headers = {"Authorization": f"Bearer {tokens.access_token}"}
        found = self._get(address, "userinfo", headers)
        if found.get("sub") != tokens.subject:
            raise self._not_verified("claims of somebody else")
        return found

    def logout_token(self, token: str) -> LogoutToken:
        """Verifies a logout token of this provider. Raises `LogoutTokenRefused` and `Refused`."""
        header, claims = self._verified(token)
        kind = header.get("typ")
        if kind is not None and str(kind).lower() not in ("logout+jwt", "jwt"):
            raise LogoutTokenRefused
        now = self._clock().timestamp()
        iat, exp = claims.get("iat"), claims.get("exp")
        events, audience = claims.get("events"), claims.get("aud")
        subject, sid, jti = (_name(claims.get(name)) for name in ("sub", "sid", "jti"))
        right = (
            claims.get("iss") == self.provider.issuer
            and self.provider.client_id in (audience if isinstance(audience, list) else [audience])
            and _is_time(iat)
            and now - LOGOUT_TOKEN_LIFE.total_seconds() <= iat <= now + LEEWAY
            and (exp is None or (_is_time(exp) and exp > now - LEEWAY))
            and isinstance(events, dict)
            and isinstance(events.get(LOGOUT_EVENT), dict)
            and "nonce" not in claims
            and all(
                (name in claims) == (value is not None)
                for name, value in (("sub", subject), ("sid", sid))
            )
            and (subject is not None or sid is not None)
        )
        if not right or jti is None:
            raise LogoutTokenRefused
        return LogoutToken(self.provider.issuer, subject, sid, jti)

    # --- what the provider says of itself ---

    def metadata(self) -> Metadata:
        with self._lock:
            return self._current_metadata()

    def _current_metadata(self) -> Metadata:
        now = self._clock()
        if self._metadata is not None and now < self._metadata[1]:
            return self._metadata[0]
        if self._failed is not None and now < self._failed[1]:
            raise Refused(self._failed[0])
        try:
            document = self._get(
                get_well_known_url(self.provider.issuer, external=True), "document"
            )
            found = self._checked(document)
        except Refused as refusal:
            self._failed = (refusal.reason, now + FAILURE_STAYS)
            raise
        self._metadata, self._failed = (found, now + METADATA_STAYS), None
        return found

    def _checked(self, document: Mapping[str, Any]) -> Metadata:
        if document.get("issuer") != self.provider.issuer:
            raise self._misconfigured("its document names another issuer than the table does")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            if not _is_address(document.get(name)):
                raise self._misconfigured(f"its document has no {name} with https")
        methods = document.get("code_challenge_methods_supported")
        if isinstance(methods, list) and "S256" not in methods:
            raise self._misconfigured("it does not know the code challenge S256")
        signs = document.get("id_token_signing_alg_values_supported", ["RS256"])
        algorithms = frozenset(signs if isinstance(signs, list) else ()) & frozenset(ALGORITHMS)
        if not algorithms:
            raise self._misconfigured("it signs id tokens by no algorithm that can be verified")
        ways = document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        basic = not isinstance(ways, list) or "client_secret_basic" in ways
        return Metadata(
            document["authorization_endpoint"],
            document["token_endpoint"],
            document["jwks_uri"],
            _address(document.get("userinfo_endpoint")),
            _address(document.get("end_session_endpoint")),
            document.get("authorization_response_iss_parameter_supported") is True,
            algorithms,
            self.provider.token_auth or ("client_secret_basic" if basic else "client_secret_post"),
        )

    def _key(self, header: Mapping[str, Any]) -> Key:
        """The key that a header names. One that nobody knows is looked for once, and then not again
        for a while, however many tokens name it.
        """
        with self._lock:
            address = self._current_metadata().jwks_uri
            now = self._clock()
            key = None if self._keys is None else _fitting(self._keys[0], header)
            stays = UNKNOWN_KEY_EVERY if key is None else KEYS_STAY
            if self._keys is None or now >= self._keys[1] + stays:
                self._keys = (self._fetch_keys(address), now)
                key = _fitting(self._keys[0], header)
        if key is None:
            raise self._not_verified("a token that no known key has signed")
        return key

    def _fetch_keys(self, address: str) -> list[Key]:
        found = self._get(address, "keys").get("keys")
        keys = []
        for data in found if isinstance(found, list) else []:
            key = _import(data)
            if key is not None:
                keys.append(key)
        return keys

    # --- tokens ---

    def _verified(self, token: str) -> tuple[Mapping[str, Any], dict[str, Any]]:
        """Header and claims of a signed token."""
        if len(token) > MAX_TOKEN or not token.isascii():
            raise self._not_verified("a token of a strange form")
        registry = _Registry(algorithms=self.metadata().algorithms, strict_check_header=False)
        try:
            header = jws.extract_compact(token.encode(), registry=registry).headers()
            if header.get("alg") not in registry.allowed:
                raise self._not_verified("a token signed by an algorithm that is not allowed")
            decoded = jwt.decode(token, self._key(header), registry=registry)
        except (JoseError, ValueError, TypeError):
            raise self._not_verified("a token whose signature is not right") from None
        return decoded.header, decoded.claims

    def _id_token(self, token: str, nonce: str, access_token: str) -> Mapping[str, Any]:
        header, claims = self._verified(token)
        # at_hash of either name of this signature is made by the same hash.
        header = {**header, "alg": "EdDSA" if header["alg"] == "Ed25519" else header["alg"]}
        checked = CodeIDToken(
            claims,
            header,
            {
                "iss": {"essential": True, "value": self.provider.issuer},
                "aud": {"essential": True, "value": self.provider.client_id},
                "sub": {"essential": True},
            },
            {
                "nonce": nonce,
                "client_id": self.provider.client_id,
                "access_token": access_token,
            },
        )
        try:
            checked.validate(now=int(self._clock().timestamp()), leeway=LEEWAY)
        except (JoseError, ValueError, TypeError):
            raise self._not_verified("an id token whose claims are not right") from None
        if _name(claims.get("sub")) is None:
            raise self._not_verified("an id token with a strange subject")
        return claims

    def _signed_in_since(self, claims: Mapping[str, Any], since: datetime) -> None:
        at = claims.get("auth_time")
        if not _is_time(at) or at < since.timestamp() - LEEWAY:
            log.warning("provider %s: it did not ask the user again", self.provider.name)
            raise Refused("too-old")

    # --- requests ---

    def _session(self, token_auth: str = "client_secret_basic") -> OAuth2Session:  # noqa: S107
        session = OAuth2Session(
            self.provider.client_id,
            self.provider.secret,
            token_endpoint_auth_method=token_auth,
            scope=" ".join(self.provider.scopes),
            redirect_uri=self._redirect_uri,
            code_challenge_method="S256",
        )
        session.verify = ca_file()
        return session

    def _get(
        self, address: str, what: str, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The JSON object at an address."""
        try:
            with requests.Session() as session:
                session.verify = ca_file()
                answer = _read(
                    session.get(
                        address,
                        headers={"Accept": "application/json", **(headers or {})},
                        timeout=TIMEOUT,
                        allow_redirects=False,
                        stream=True,
                    )
                )
            if answer.status_code != 200:
                raise self._unreachable(f"its {what}: HTTP status {answer.status_code}")
            found = json.loads(answer.content)
        except requests.RequestException:
            raise self._unreachable(f"its {what} cannot be fetched") from None
        except ValueError:
            raise self._misconfigured(f"its {what}: no JSON") from None
        if not isinstance(found, dict):
            raise self._misconfigured(f"its {what}: no JSON object")
        return found

    def _unreachable(self, why: str) -> Refused:
        log.warning("provider %s: %s", self.provider.name, why)
        return Refused("unreachable")

    def _misconfigured(self, why: str) -> Refused:
        log.error("provider %s: %s", self.provider.name, why)
        return Refused("misconfigured")

    def _not_verified(self, what: str) -> Refused:
        log.warning("provider %s: refused %s", self.provider.name, what)
        return Refused("not-verified")


class _Registry(jws.JWSRegistry):
    """Only what is allowed, and without a warning for EdDSA, the older name of Ed25519."""

    max_header_length = 8192
    allowed: Any

    def get_alg(self, name: str) -> Any:
        if name not in self.allowed:
            raise JoseError("this algorithm is not allowed")
        return self.algorithms[name]


def _fitting(keys: list[Key], header: Mapping[str, Any]) -> Key | None:
    kid, alg = header.get("kid"), header.get("alg")
    fits = [
        key
        for key in keys
        if key.key_type == ALGORITHMS.get(str(alg)) and key.get("alg") in (None, alg)
    ]
    if kid is not None:
        return next((key for key in fits if key.get("kid") == kid), None)
    return fits[0] if len(fits) == 1 else None


def _import(data: Any) -> Key | None:
    """A published key that signs; None where it is of no use here."""
    if not isinstance(data, dict) or data.get("use", "sig") != "sig":
        return None
    kinds: dict[str, Callable[[Any], Key]] = {
        "RSA": RSAKey.import_key,
        "EC": ECKey.import_key,
        "OKP": OKPKey.import_key,
    }
    kind = data.get("kty")
    if kind not in kinds or (kind == "RSA" and len(str(data.get("n", ""))) < MIN_RSA_N):
        return None
    try:
        return kinds[kind](data)
    except (JoseError, ValueError, TypeError, KeyError):
        return None


def _read(answer: requests.Response) -> requests.Response:
    """Reads the body here, so that its size and its slowness have limits."""
    end = time.monotonic() + TOTAL_SECONDS
    body = b""
    for chunk in answer.iter_content(16384):
        body += chunk
        if len(body) > MAX_BYTES or time.monotonic() > end:
            answer.close()
            raise requests.RequestException("too much, or too slow")
    answer._content = body
    return answer


def _is_time(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _name(value: Any) -> str | None:
    """A subject, session id or the like; None where it is none."""
    usable_name = isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable()
    return value if usable_name else None


def _is_address(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 2000 and value.isprintable() and usable(value)


def _address(value: Any) -> str | None:
    return value if _is_address(value) else None
