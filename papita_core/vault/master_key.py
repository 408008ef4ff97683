"""The master key: where it comes from, and the two methods that the ring needs of it.

It is looked for in the file that PAPITA_MASTER_KEY_FILE names, then in PAPITA_MASTER_KEY, then in
`keys/master.key` beside the data folder. It is generated only where the caller says that there is
nothing yet that another key could have sealed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path
from typing import Protocol

from papita_core.settings import Settings, SettingsError
from papita_core.vault import crypto


class MasterKey(Protocol):
    """Wraps root keys. A key management service is one more implementation of this."""

    @property
    def key_id(self) -> bytes:
        """16 bytes that name the key and give nothing of it away."""
        ...

    def wrap(self, root_key: bytes, context: tuple[bytes, ...]) -> bytes: ...

    def unwrap(self, wrapped: bytes, context: tuple[bytes, ...]) -> bytes:
        """Raises `EnvelopeError` where this key did not wrap it."""
        ...


class LocalMasterKey:
    """A master key whose 32 bytes this process holds."""

    def __init__(self, key: bytes) -> None:
        if len(key) != crypto.KEY_BYTES:
            raise ValueError("the master key has to be 32 bytes")
        self.__key = key
        self._id = hmac.new(key, b"papita master key id", hashlib.sha256).digest()[
            : crypto.KEY_ID_BYTES
        ]

    @property
    def key_id(self) -> bytes:
        return self._id

    def wrap(self, root_key: bytes, context: tuple[bytes, ...]) -> bytes:
        return crypto.seal(self.__key, self._id, root_key, (b"root-key", *context))

    def unwrap(self, wrapped: bytes, context: tuple[bytes, ...]) -> bytes:
        return crypto.open_sealed(self.__key, self._id, wrapped, (b"root-key", *context))

    def __repr__(self) -> str:
        return f"LocalMasterKey({self._id.hex()[:8]}…)"


def find_master_key(settings: Settings, *, generate: bool) -> LocalMasterKey | None:
    """The master key in force, or None where there is none and none may be generated.

    Raises `SettingsError` where a key is named but cannot be used.
    """
    if settings.master_key_file is not None:
        return LocalMasterKey(_named_file(settings.master_key_file))
    if settings.master_key is not None:
        return LocalMasterKey(_parse(settings.master_key.get_secret_value(), "PAPITA_MASTER_KEY"))
    path = settings.keys_dir / "master.key"
    if generate:
        create_private_file(path, base64.urlsafe_b64encode(crypto.new_key()).decode() + "\n")
    text = read_private_file(path)
    return None if text is None else LocalMasterKey(_parse(text, str(path)))


def client_secret(settings: Settings) -> str:
    """AL-Chat's client secret: named file, environment, or generated beside the master key."""
    if settings.client_secret_file is not None:
        try:
            value = settings.client_secret_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise SettingsError("ALCHAT_CLIENT_SECRET_FILE: the file cannot be read") from None
        if not value:
            raise SettingsError("ALCHAT_CLIENT_SECRET_FILE: the file is empty")
        return value
    if settings.client_secret is not None:
        return settings.client_secret.get_secret_value()
    path = settings.keys_dir / "alchat-client-secret"
    create_private_file(path, secrets.token_urlsafe(32) + "\n")
    text = read_private_file(path)
    if not text:
        raise SettingsError(f"{path.name}: the file is empty; delete it to get a fresh one")
    return text.strip()


def create_private_file(path: Path, text: str) -> None:
    """Writes a file that only its owner may read, whole or not at all; leaves one that is there."""
    try:
        _create_private_file(path, text)
    except OSError as error:
        raise SettingsError(
            f"keys/{path.name}: cannot be written: {error.strerror}; give the key by a setting"
        ) from None


def _create_private_file(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.path.lexists(path):
        return
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(scratch, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(scratch, path)  # fails if another process was first: then that key is the key
        except FileExistsError:
            return
    finally:
        scratch.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_private_file(path: Path) -> str | None:
    """The text of a generated file, or None. Refuses links and files that others may read."""
    try:
        # Not blocking: opening a pipe would wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError:
        raise SettingsError(f"keys/{path.name}: this must be a plain file, not a link") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SettingsError(f"keys/{path.name}: this must be a plain file")
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise SettingsError(f"keys/{path.name}: others may read it; run chmod 600 on it")
        return os.read(descriptor, 65536).decode("utf-8")
    except UnicodeDecodeError:
        raise SettingsError(f"keys/{path.name}: the file is damaged; put the right one") from None
    finally:
        os.close(descriptor)


def _named_file(path: Path) -> bytes:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        raise SettingsError("PAPITA_MASTER_KEY_FILE: the file cannot be read") from None
    return _parse(text, "PAPITA_MASTER_KEY_FILE")


def _parse(text: str, where: str) -> bytes:
    text = text.strip()
    try:
        if len(text) == 2 * crypto.KEY_BYTES:
            return bytes.fromhex(text)
        key = base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != crypto.KEY_BYTES:
        raise SettingsError(f"{where}: the master key has to be 32 bytes, in base64 or hex")
    return key
