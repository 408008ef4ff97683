"""The envelope in which every secret lies: AES-256-GCM with everything around it authenticated.

A blob is `format (1) ‖ algorithm (1) ‖ key id (16) ‖ nonce (12) ‖ ciphertext ‖ tag (16)`. The
header and the caller's context are the additional data, so a blob moved to another row, owner,
origin or version does not open. A key is used for one blob only; opening never tries, guesses or
falls back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FORMAT = 1
AES_256_GCM = 1
KEY_BYTES = 32
KEY_ID_BYTES = 16
NONCE_BYTES = 12
TAG_BYTES = 16
HEADER_BYTES = 2 + KEY_ID_BYTES + NONCE_BYTES
PAD_TO = 64


class EnvelopeError(Exception):
    """The blob is not one that this key, in this context, sealed."""


def new_key() -> bytes:
    return os.urandom(KEY_BYTES)


def new_key_id() -> bytes:
    return os.urandom(KEY_ID_BYTES)


def seal(
    key: bytes,
    key_id: bytes,
    plaintext: bytes,
    context: Sequence[bytes],
    nonce: bytes | None = None,
) -> bytes:
    """Seals `plaintext` under `key`, bound to `context`. `nonce` is for test vectors alone."""
    nonce = os.urandom(NONCE_BYTES) if nonce is None else nonce
    if len(nonce) != NONCE_BYTES:  # the library takes 8 to 128 without a word
        raise ValueError("the nonce has to be 12 bytes")
    _check_key(key, key_id)
    header = bytes((FORMAT, AES_256_GCM)) + key_id + nonce
    return header + AESGCM(key).encrypt(nonce, plaintext, _aad(header, context))


def open_sealed(key: bytes, key_id: bytes, blob: bytes, context: Sequence[bytes]) -> bytes:
    """The plaintext of a blob. Raises `EnvelopeError` for whatever is not exactly right."""
    _check_key(key, key_id)
    if len(blob) < HEADER_BYTES + TAG_BYTES:
        raise EnvelopeError("the blob is too short")
    header, body = blob[:HEADER_BYTES], blob[HEADER_BYTES:]
    if header[0] != FORMAT:
        raise EnvelopeError("the blob has an unknown format version")
    if header[1] != AES_256_GCM:
        raise EnvelopeError("the blob has an unknown algorithm")
    if header[2 : 2 + KEY_ID_BYTES] != key_id:
        raise EnvelopeError("the blob belongs to another key")
    try:
        return AESGCM(key).decrypt(header[-NONCE_BYTES:], body, _aad(header, context))
    except InvalidTag:
        raise EnvelopeError("the blob was changed, or belongs to another row") from None


def sealed_key_id(blob: bytes) -> bytes:
    """The id of the key under which a blob was sealed, as its header says."""
    if len(blob) < HEADER_BYTES:
        raise EnvelopeError("the blob is too short")
    return blob[2 : 2 + KEY_ID_BYTES]


def encode(kind: str, value: Any) -> bytes:
    """Typed JSON, padded with spaces to a multiple of 64 bytes: lengths say little."""
    text = json.dumps(
        {"kind": kind, "value": value}, separators=(",", ":"), ensure_ascii=False
    ).encode()
    return text + b" " * (-len(text) % PAD_TO)


def decode(kind: str, plaintext: bytes) -> Any:
    """The value of `encode`. Raises `EnvelopeError` where the kind is another one."""
    try:
        document = json.loads(plaintext)
        if document["kind"] == kind:
            return document["value"]
    except (ValueError, KeyError, TypeError):
        pass
    raise EnvelopeError("the plaintext is of another kind")


def _check_key(key: bytes, key_id: bytes) -> None:
    if len(key) != KEY_BYTES or len(key_id) != KEY_ID_BYTES:
        raise ValueError("a key has 32 bytes and its id 16")


def _aad(header: bytes, context: Sequence[bytes]) -> bytes:
    # Each part is preceded by its length, so two different contexts never give the same bytes.
    return b"".join([len(part).to_bytes(4, "big") + part for part in (b"papita", header, *context)])
