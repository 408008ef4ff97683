"""User tokens: exactly ours, for this audience, now - and nothing that only looks like it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import event

from papita_core.actors import Actor
from papita_core.grants.user_tokens import LIFE, READ_EVERY, TokenInvalid
from papita_core.vault.keyring import USER_TOKEN
from tests.papita_core.house import House, at_once, both_engines


class Forge:
    """Somebody who knows how tokens look; with `ours`, signs with the real key."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.kid, raw = house.papita.ring.purpose_key(USER_TOKEN)
        self.ours = Ed25519PrivateKey.from_private_bytes(raw)
        actor = house.sign_in("ana")
        self.good = house.papita.user_tokens.issue(actor, "al-chat").token
        self.claims: dict[str, Any] = jwt.decode(self.good, options={"verify_signature": False})

    def token(self, header: dict[str, Any] | None = None, key: object = None, **claims: Any) -> str:
        changed = {k: v for k, v in {**self.claims, **claims}.items() if v is not ...}
        full = {"typ": "at+jwt", "kid": self.kid, **(header or {})}
        full = {k: v for k, v in full.items() if v is not ...}
        algorithm = full.pop("alg", "EdDSA")
        return jwt.encode(changed, key or self.ours, algorithm, headers=full)  # type: ignore[arg-type]

    def signed(self, **claims: Any) -> str:
        """Signed with the real key, with claims that the library would not write."""
        payload = json.dumps({**self.claims, **claims}).encode()
        headers = {"typ": "at+jwt", "kid": self.kid}
        return jwt.PyJWS().encode(payload, self.ours, "EdDSA", headers=headers)

    def raw(self, header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
        parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
        return ".".join(base64.urlsafe_b64encode(p).decode().rstrip("=") for p in parts)

    @property
    def public_bytes(self) -> list[bytes]:
        key = self.ours.public_key()
        e, f = serialization.Encoding, serialization.PublicFormat
        return [
            key.public_bytes(e.Raw, f.Raw),
            key.public_bytes(e.DER, f.SubjectPublicKeyInfo),
            key.public_bytes_raw().hex().encode(),
            json.dumps(self.house.papita.user_tokens.jwks()["keys"][0]).encode(),
        ]


@pytest.fixture(scope="module")
def forge(shared_house: House) -> Forge:
    return Forge(shared_house)


def verify(forge: Forge, token: str) -> object:
    return forge.house.papita.user_tokens.verify(token, "al-chat")


def test_a_token_of_ours_says_whom_it_speaks_for(forge: Forge):
    claims = forge.house.papita.user_tokens.verify(forge.good, "al-chat")
    user = forge.house.papita.users.by_username("ana")
    assert user is not None
    assert (claims.user_id, claims.username) == (user.id, "ana")
    assert claims.session_id is not None
    assert claims.access_token_id is None
    header = jwt.get_unverified_header(forge.good)
    assert header == {"alg": "EdDSA", "typ": "at+jwt", "kid": forge.kid}
    assert forge.claims["exp"] - forge.claims["iat"] == LIFE.total_seconds() == 300
    assert (forge.claims["iss"], forge.claims["aud"], forge.claims["scope"]) == (
        *("papita", "al-chat", "chat"),
    )
    assert forge.token() == forge.good  # the forge can make good ones, so what follows means much


ATTACKS: dict[str, Callable[[Forge], str]] = {
    "no signature": lambda f: f.raw({"alg": "none", "typ": "at+jwt", "kid": f.kid}, f.claims),
    "no signature, in other letters": lambda f: f.raw(
        {"alg": "NoNe", "typ": "at+jwt", "kid": f.kid}, f.claims
    ),
    "an empty signature": lambda f: f.good.rpartition(".")[0] + ".",
    "another signature": lambda f: (
        f.good.rpartition(".")[0] + "." + f.token(jti="x").rpartition(".")[2]
    ),
    "another algorithm": lambda f: f.token({"alg": "HS256"}, key=b"x" * 32),
    "a header that names another algorithm": lambda f: f.raw(
        {"alg": "HS256", "typ": "at+jwt", "kid": f.kid}, f.claims, b"x" * 64
    ),
    "a key of one's own": lambda f: f.token(key=Ed25519PrivateKey.generate()),
    "a key of one's own, sent along": lambda f: f.token(
        {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}}, key=Ed25519PrivateKey.generate()
    ),
    "an unknown key": lambda f: f.token({"kid": "0" * 32}),
    "no key id": lambda f: f.token({"kid": ...}),
    "a key id that is a query": lambda f: f.token({"kid": "' OR 1=1 --"}),
    "a key id of a key for something else": lambda f: f.token(
        {"kid": f.house.papita.ring.purpose_key("audit")[0]}
    ),
    "no type": lambda f: f.token({"typ": ...}),
    "another type": lambda f: f.token({"typ": "JWT"}),
    "a longer type": lambda f: f.token({"typ": "application/at+jwt"}),
    "an extension that one must understand": lambda f: f.token({"crit": ["x"], "x": 1}),
    "expired": lambda f: f.token(exp=f.claims["iat"] - 1),
    "expired this moment": lambda f: f.token(exp=int(f.house.clock().timestamp())),
    "an expiry that is a text": lambda f: f.token(exp="soon"),
    "an expiry that is no whole number": lambda f: f.token(exp=9e99),
    "another audience": lambda f: f.token(aud="ai-resume"),
    "several audiences": lambda f: f.token(aud=["al-chat", "ai-resume"]),
    "another issuer": lambda f: f.token(iss="https://evil.example"),
    "an issuer among several": lambda f: f.signed(iss=["papita"]),
    "an audience that is a list": lambda f: f.signed(aud=["al-chat"]),
    "an expiry that is true": lambda f: f.signed(exp=True),
    "no user": lambda f: f.signed(sub=None),
    "not valid yet": lambda f: f.token(nbf=f.claims["exp"] + 100),
    "neither session nor access token": lambda f: f.token(sid=...),
    "both session and access token": lambda f: f.token(pat="x"),
    "claims that are no object": lambda f: f.raw(
        {"alg": "EdDSA", "typ": "at+jwt", "kid": f.kid},
        [],
        b"x" * 64,  # type: ignore[arg-type]
    ),
    **{
        f"no {name}": (lambda f, name=name: f.token(**{name: ...}))
        for name in ("iss", "aud", "sub", "preferred_username", "jti", "iat", "exp", "scope")
    },
    **{
        f"{name} of another": (
            lambda f, name=name: ".".join(
                (
                    f.good.split(".")[0],
                    f.token(**{name: "other"}).split(".")[1],
                    f.good.split(".")[2],
                )
            )
        )
        for name in ("sub", "aud", "sid", "exp")
    },
    **{
        f"the public key as a password, {place}": (
            lambda f, place=place: hmac_token(f, f.public_bytes[place])
        )
        for place in range(4)
    },
    **{
        f"no token: {text!r}": (lambda f, text=text: text)
        for text in ("", ".", "..", "a.b.c", "x" * 8000, "\ud800", "ü.ü.ü", "null", "\0")
    },
}


def hmac_token(forge: Forge, key: bytes) -> str:
    """Signed with HMAC by hand, as libraries refuse public keys here."""
    import hashlib
    import hmac

    signing = forge.raw({"alg": "HS256", "typ": "at+jwt", "kid": forge.kid}, forge.claims)
    signing = signing.rpartition(".")[0]
    mac = hmac.new(key, signing.encode(), hashlib.sha256).digest()
    return f"{signing}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_whatever_is_not_exactly_right_is_refused(forge: Forge, attack: Callable[[Forge], str]):
    with pytest.raises(TokenInvalid):
        verify(forge, attack(forge))


def test_every_changed_character_breaks_a_token(forge: Forge):
    for place in range(0, len(forge.good), 7):
        other = "A" if forge.good[place] != "A" else "B"
        if forge.good[place] == ".":
            continue
        with pytest.raises(TokenInvalid):
            verify(forge, forge.good[:place] + other + forge.good[place + 1 :])


def test_a_token_lives_for_five_minutes(house: House):
    forge = Forge(house)
    forge.house.clock.forward(minutes=4, seconds=58)
    verify(forge, forge.good)
    forge.house.clock.forward(seconds=3)
    with pytest.raises(TokenInvalid):
        verify(forge, forge.good)


def test_a_clock_that_differs_between_replicas_does_no_harm(forge: Forge):
    ahead = int((forge.house.clock() + timedelta(seconds=20)).timestamp())
    verify(forge, forge.token(iat=ahead, exp=ahead + 300))


def test_the_published_keys_verify_and_hold_nothing_private(forge: Forge):
    keys = forge.house.papita.user_tokens.jwks()["keys"]
    assert len(keys) == 2  # the active one and the next
    for key in keys:
        assert set(key) == {"kty", "crv", "alg", "use", "kid", "x"}
        assert (key["kty"], key["crv"], key["alg"]) == ("OKP", "Ed25519", "EdDSA")
    found = jwt.PyJWKSet.from_dict({"keys": keys})[forge.kid]
    jwt.decode(forge.good, found, algorithms=["EdDSA"], audience="al-chat", issuer="papita")


def test_the_next_key_and_a_retired_one_are_good_as_well(house: House):
    forge = Forge(house)
    coming = house.papita.rotation.rotate_signing(Actor.operator())
    assert house.papita.ring.purpose_key(USER_TOKEN)[0] == coming != forge.kid
    house.papita.user_tokens.verify(forge.good, "al-chat")
    house.sql("UPDATE purpose_keys SET state = 'next' WHERE kid = :kid", kid=forge.kid)
    house.papita.user_tokens.verify(forge.good, "al-chat")


def reads(house: House) -> list[str]:
    """The statements of the house from now on."""
    seen: list[str] = []

    @event.listens_for(house.papita.database.engine, "before_cursor_execute")
    def _note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("BEGIN"):
            seen.append(statement)

    return seen


def test_the_keys_are_read_once_for_many_tokens(house: House):
    forge, seen = Forge(house), reads(house)
    assert len(at_once([lambda: verify(forge, forge.good)] * 8)) == 8
    assert len(seen) == 1
    house.clock.forward(seconds=READ_EVERY.total_seconds())
    verify(forge, forge.good)
    assert len(seen) == 2
    # What names a key that is not there is looked up each time.
    for _ in range(2):
        with pytest.raises(TokenInvalid):
            verify(forge, forge.token({"kid": "0" * 32}))
    assert len(seen) == 4


@both_engines
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE purpose_keys SET retired_at = '2001-01-01 00:00:00+00' WHERE kid = :kid",
        "DELETE FROM purpose_keys WHERE kid = :kid",
    ],
)
def test_a_key_that_verifies_no_longer_is_forgotten_within_seconds(house: House, change: str):
    forge = Forge(house)
    house.papita.rotation.rotate_signing(Actor.operator())
    verify(forge, forge.good)
    house.sql(change, kid=forge.kid)
    house.clock.forward(seconds=READ_EVERY.total_seconds())
    with pytest.raises(TokenInvalid):
        verify(forge, forge.good)


def test_a_retired_key_ends_after_a_day_also_where_tokens_are_verified_all_the_time(house: House):
    forge = Forge(house)
    house.papita.rotation.rotate_signing(Actor.operator())
    forever = forge.token(exp=forge.claims["exp"] + 10**6)
    for _ in range(24):
        house.clock.forward(minutes=59, seconds=59)
        verify(forge, forever)
    house.clock.forward(seconds=24 + READ_EVERY.total_seconds())
    with pytest.raises(TokenInvalid):
        verify(forge, forever)


def test_a_clock_that_is_set_back_keeps_no_key_alive(house: House):
    forge = Forge(house)
    verify(forge, forge.good)
    house.sql("DELETE FROM purpose_keys WHERE kid = :kid", kid=forge.kid)
    house.clock.forward(minutes=-1)
    with pytest.raises(TokenInvalid):
        verify(forge, forge.good)


def test_a_key_that_another_process_has_just_made_verifies_at_once(house: House):
    forge, other = Forge(house), house.opened()
    other.user_tokens.verify(forge.good, "al-chat")
    # The second time the key is one that was not even published when the other one looked.
    for _ in range(2):
        house.papita.rotation.rotate_signing(Actor.operator())
    token = house.papita.user_tokens.issue(house.sign_in("ben"), "al-chat").token
    assert other.user_tokens.verify(token, "al-chat").username == "ben"


def test_a_damaged_key_is_no_reason_to_refuse_the_others(house: House):
    forge = Forge(house)
    house.sql("UPDATE purpose_keys SET public = 'abcd' WHERE state = 'next'")
    verify(forge, forge.good)
