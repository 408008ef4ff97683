"""Where the master key comes from, and every way in which it may not be fit for use."""

from __future__ import annotations

import base64
import logging
import os
import stat
from pathlib import Path

import pytest

from papita_core.settings import SettingsError
from papita_core.vault import crypto
from papita_core.vault.master_key import (
    LocalMasterKey,
    client_secret,
    find_master_key,
    generated_paths,
    master_keys,
    next_generated,
)
from tests.papita_core.house import House

RAW = bytes(range(32))
URLSAFE = bytes([251, 255] * 16)


def kid(raw: bytes) -> str:
    return LocalMasterKey(raw).key_id.hex()


@pytest.mark.parametrize(
    "text",
    [
        RAW.hex(),
        RAW.hex().upper() + "\n",
        base64.b64encode(RAW).decode(),
        f"  {base64.b64encode(RAW).decode()}\n",
    ],
)
def test_a_key_may_stand_in_hex_or_base64(house: House, text: str):
    found = find_master_key(house.settings(PAPITA_MASTER_KEY=text), generate=False)
    assert found is not None
    assert found.key_id.hex() == kid(RAW)


def test_base64_may_be_the_one_for_addresses(house: House):
    text = base64.urlsafe_b64encode(URLSAFE).decode()
    found = find_master_key(house.settings(PAPITA_MASTER_KEY=text), generate=False)
    assert found is not None
    assert found.key_id.hex() == kid(URLSAFE)


def test_a_named_file_comes_before_the_environment_and_that_before_the_generated_one(house: House):
    other = bytes(32)
    generated = find_master_key(house.settings(), generate=True)
    assert generated is not None
    named = house.folder / "named"
    named.write_text(base64.b64encode(RAW).decode())
    both = house.settings(PAPITA_MASTER_KEY=other.hex(), PAPITA_MASTER_KEY_FILE=str(named))
    alone = house.settings(PAPITA_MASTER_KEY=other.hex())
    found = [find_master_key(settings, generate=True) for settings in (both, alone)]
    assert [key.key_id.hex() for key in found if key] == [kid(RAW), kid(other)]
    again = find_master_key(house.settings(), generate=False)
    assert again is not None
    assert again.key_id == generated.key_id


def test_a_named_file_may_be_a_link_as_orchestrators_mount_them(house: House):
    (house.folder / "real").write_text(RAW.hex())
    (house.folder / "link").symlink_to(house.folder / "real")
    settings = house.settings(PAPITA_MASTER_KEY_FILE=str(house.folder / "link"))
    assert find_master_key(settings, generate=False) is not None


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o440, True), (0o644, True)])
def test_a_named_file_that_others_may_read_is_used_with_a_warning(
    house: House, mode: int, warned: bool, caplog: pytest.LogCaptureFixture
):
    """A generated file is refused; but this is how Docker and Kubernetes mount secrets."""
    path = house.folder / "named"
    path.write_text(RAW.hex())
    path.chmod(mode)
    with caplog.at_level(logging.WARNING):
        found = find_master_key(house.settings(PAPITA_MASTER_KEY_FILE=str(path)), generate=False)
    assert found is not None
    assert ("PAPITA_MASTER_KEY_FILE: other accounts" in caplog.text) is warned
    assert RAW.hex() not in caplog.text


@pytest.mark.parametrize("first_there", [True, False])
def test_the_generated_key_that_is_to_come_follows_the_one_in_force(
    house: House, first_there: bool
):
    first = find_master_key(house.settings(), generate=True)
    coming = next_generated(house.settings())
    assert next_generated(house.settings()).key_id == coming.key_id
    path, coming_path = generated_paths(house.settings())
    assert stat.S_IMODE(coming_path.stat().st_mode) == 0o600
    if not first_there:
        path.unlink()
    found = [key.key_id for key in master_keys(house.settings(), generate=False)]
    assert first is not None
    assert found == ([first.key_id] if first_there else []) + [coming.key_id]
    coming_path.chmod(0o644)
    with pytest.raises(SettingsError, match=r"keys/master\.key\.next: .*chmod 600"):
        master_keys(house.settings(), generate=False)


@pytest.mark.parametrize(
    "text",
    ["%", "sk-my-secret", RAW[:31].hex(), RAW.hex() + "00", "g" * 64, "=" * 44, "é" * 32, "A" * 44],
)
def test_a_malformed_key_is_named_and_never_shown(house: House, text: str):
    named = house.folder / "named"
    named.write_text(text)
    for name, value in (("PAPITA_MASTER_KEY", text), ("PAPITA_MASTER_KEY_FILE", str(named))):
        with pytest.raises(SettingsError, match=f"^{name}: ") as caught:
            find_master_key(house.settings(**{name: value}), generate=True)
        assert text not in str(caught.value).removeprefix(name)
    assert not house.settings().keys_dir.exists()


@pytest.mark.parametrize("kind", ["missing", "folder", "binary", "empty"])
def test_a_named_file_that_cannot_be_read_is_an_error_and_replaced_by_nothing(
    house: House, kind: str
):
    path = house.folder / "named"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(b"\xff\xfe" if kind == "binary" else b"")
    with pytest.raises(SettingsError, match=r"^PAPITA_MASTER_KEY_FILE: "):
        find_master_key(house.settings(PAPITA_MASTER_KEY_FILE=str(path)), generate=True)
    assert not house.settings().keys_dir.exists()


def test_a_generated_key_is_private_random_and_whole(house: House):
    first = find_master_key(house.settings(), generate=True)
    folder = house.settings().keys_dir
    path = folder / "master.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder == house.folder / "keys"
    assert len(base64.urlsafe_b64decode(path.read_text())) == 32
    assert [item.name for item in folder.iterdir()] == ["master.key"]
    path.unlink()
    second = find_master_key(house.settings(), generate=True)
    assert first is not None
    assert second is not None
    assert first.key_id != second.key_id


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o666, 0o601])
def test_a_generated_key_that_others_may_touch_is_refused(house: House, mode: int):
    find_master_key(house.settings(), generate=True)
    path = house.settings().keys_dir / "master.key"
    path.chmod(mode)
    with pytest.raises(SettingsError, match=r"keys/master\.key: .*chmod 600"):
        find_master_key(house.settings(), generate=False)


@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "pipe", "binary", "empty"])
def test_a_generated_key_has_to_be_a_plain_readable_file(house: House, kind: str):
    folder = house.settings().keys_dir
    folder.mkdir(mode=0o700)
    path = folder / "master.key"
    match kind:
        case "link":
            (house.folder / "real").write_text(RAW.hex())
            path.symlink_to(house.folder / "real")
        case "dangling link":
            path.symlink_to(house.folder / "nowhere")
        case "folder":
            path.mkdir(mode=0o700)
        case "pipe":
            os.mkfifo(path, 0o600)
        case _:
            path.write_bytes(b"\xff\xfe" if kind == "binary" else b"")
            path.chmod(0o600)
    for generate in (False, True):
        with pytest.raises(SettingsError, match=r"master\.key"):
            find_master_key(house.settings(), generate=generate)
    assert not (house.folder / "nowhere").exists()


def test_a_key_wraps_for_its_own_place_alone():
    key = LocalMasterKey(RAW)
    wrapped = key.wrap(b"root", (b"one",))
    assert key.unwrap(wrapped, (b"one",)) == b"root"
    for other, place in ((key, b"two"), (LocalMasterKey(bytes(32)), b"one")):
        with pytest.raises(crypto.EnvelopeError):
            other.unwrap(wrapped, (place,))


def test_the_id_and_the_repr_of_a_key_give_nothing_of_it_away():
    key = LocalMasterKey(RAW)
    assert RAW.hex()[:16] not in key.key_id.hex() + repr(key)
    assert key.key_id != LocalMasterKey(bytes(32)).key_id


def test_the_clients_secret_is_named_given_or_generated_once(house: House, tmp_path: Path):
    del house.environment["ALCHAT_CLIENT_SECRET"]
    made = client_secret(house.settings())
    assert len(made) >= 43
    assert client_secret(house.settings()) == made
    path = house.settings().keys_dir / "alchat-client-secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert client_secret(house.settings(ALCHAT_CLIENT_SECRET="given")) == "given"
    (tmp_path / "named").write_text("from a file\n")
    named = house.settings(
        ALCHAT_CLIENT_SECRET_FILE=str(tmp_path / "named"), ALCHAT_CLIENT_SECRET="given"
    )
    assert client_secret(named) == "from a file"


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff"])
def test_a_file_with_no_client_secret_is_an_error(house: House, content: bytes | None):
    path = house.folder / "named"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"^ALCHAT_CLIENT_SECRET_FILE: "):
        client_secret(house.settings(ALCHAT_CLIENT_SECRET_FILE=str(path)))
