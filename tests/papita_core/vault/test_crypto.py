"""The envelope: what is sealed opens in its own place, unchanged, and in no other way."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from papita_core.vault import crypto

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text())
KEY, KEY_ID = bytes(range(32)), bytes(range(16))
CONTEXT = (b"credential", b"row", b"owner")

keys = st.binary(min_size=32, max_size=32)
key_ids = st.binary(min_size=16, max_size=16)
contexts = st.lists(st.binary(max_size=20), max_size=6)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(keys, key_ids, st.binary(max_size=300), contexts)
def test_what_is_sealed_opens(key: bytes, key_id: bytes, plain: bytes, context: list[bytes]):
    blob = crypto.seal(key, key_id, plain, context)
    assert crypto.open_sealed(key, key_id, blob, context) == plain
    assert crypto.sealed_key_id(blob) == key_id
    assert len(blob) == crypto.HEADER_BYTES + len(plain) + crypto.TAG_BYTES


@pytest.mark.parametrize("bit", range(8))
def test_any_flipped_bit_of_header_ciphertext_or_tag_fails(bit: int):
    blob = crypto.seal(KEY, KEY_ID, b"a secret", CONTEXT)
    for place in range(len(blob)):
        changed = bytearray(blob)
        changed[place] ^= 1 << bit
        with pytest.raises(crypto.EnvelopeError):
            crypto.open_sealed(KEY, KEY_ID, bytes(changed), CONTEXT)


def test_a_header_that_names_another_key_fails_even_if_that_key_is_asked_for():
    blob = bytearray(crypto.seal(KEY, KEY_ID, b"a secret", CONTEXT))
    other = bytes(reversed(KEY_ID))
    blob[2:18] = other
    with pytest.raises(crypto.EnvelopeError):
        crypto.open_sealed(KEY, other, bytes(blob), CONTEXT)


def test_a_blob_cut_anywhere_or_with_something_added_fails():
    blob = crypto.seal(KEY, KEY_ID, b"a secret", CONTEXT)
    for length in range(len(blob)):
        for piece in (blob[:length], blob[len(blob) - length :]):
            with pytest.raises(crypto.EnvelopeError):
                crypto.open_sealed(KEY, KEY_ID, piece, CONTEXT)
    with pytest.raises(crypto.EnvelopeError):
        crypto.open_sealed(KEY, KEY_ID, blob + b"\0", CONTEXT)


@given(contexts, contexts)
def test_another_context_fails(sealed_in: list[bytes], opened_in: list[bytes]):
    assume(sealed_in != opened_in)
    blob = crypto.seal(KEY, KEY_ID, b"a secret", sealed_in)
    with pytest.raises(crypto.EnvelopeError):
        crypto.open_sealed(KEY, KEY_ID, blob, opened_in)


@given(st.binary(min_size=30, max_size=30), contexts)
def test_the_context_can_be_read_back_from_its_encoding(header: bytes, context: list[bytes]):
    """So the encoding is injective: no two contexts share one."""
    encoded = crypto._aad(header, context)
    parts = []
    while encoded:
        (length,) = struct.unpack(">I", encoded[:4])
        parts.append(encoded[4 : 4 + length])
        encoded = encoded[4 + length :]
    assert parts == [b"papita", header, *context]


@given(json_values)
def test_typed_json_comes_back_padded_and_only_as_its_own_kind(value: object):
    encoded = crypto.encode("credential", value)
    assert len(encoded) % 64 == 0
    assert crypto.decode("credential", encoded) == value
    with pytest.raises(crypto.EnvelopeError):
        crypto.decode("canary", encoded)


@pytest.mark.parametrize("plain", [b"", b"sk-a-bare-key", b"[]", b"{}", b"\xff", b'{"kind": 1}'])
def test_plaintext_that_is_no_typed_json_is_refused(plain: bytes):
    with pytest.raises(crypto.EnvelopeError):
        crypto.decode("credential", plain)


def test_short_secrets_have_one_length():
    lengths = {len(crypto.encode("c", {"api_key": "x" * length})) for length in range(30)}
    assert lengths == {64}


@pytest.mark.parametrize("length", [0, 8, 11, 13, 16, 128])
def test_only_nonces_of_twelve_bytes_are_taken(length: int):
    with pytest.raises(ValueError, match="12 bytes"):
        crypto.seal(KEY, KEY_ID, b"", (), nonce=bytes(length))


@pytest.mark.parametrize(("key", "key_id"), [(16, 16), (24, 16), (31, 16), (32, 15), (32, 17)])
def test_only_whole_keys_and_ids_are_taken(key: int, key_id: int):
    with pytest.raises(ValueError, match="32 bytes"):
        crypto.seal(bytes(key), bytes(key_id), b"", ())
    with pytest.raises(ValueError, match="32 bytes"):
        crypto.open_sealed(bytes(key), bytes(key_id), bytes(64), ())


def test_nonces_do_not_repeat():
    blobs = {crypto.seal(KEY, KEY_ID, b"", ())[18:30] for _ in range(2000)}
    assert len(blobs) == 2000


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["name"])
def test_blobs_of_format_version_1_open_for_good(vector: dict[str, str]):
    """These blobs lie in databases: whoever changes this file gives up reading them."""
    key, key_id, nonce, blob, plain = (
        bytes.fromhex(vector[name]) for name in ("key", "keyId", "nonce", "blob", "plaintext")
    )
    context = [bytes.fromhex(part) for part in vector["context"]]
    assert crypto.open_sealed(key, key_id, blob, context) == plain
    assert crypto.seal(key, key_id, plain, context, nonce=nonce) == blob
    if "kind" in vector:
        assert crypto.decode(vector["kind"], plain) == vector["value"]
        assert crypto.encode(vector["kind"], vector["value"]) == plain
