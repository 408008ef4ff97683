"""The master key: where it comes from, and the two methods that the ring needs of it.

It is looked for in the file that PAPITA_MASTER_KEY_FILE names, then in PAPITA_MASTER_KEY, then in
the service that PAPITA_MASTER_KEY_URI names, then in `keys/master.key` beside the data folder. It
is generated only where the caller says that there is nothing yet that another key could have
sealed. `keys/master.key.next` is there while a generated key is being changed for another.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Protocol

from papita_core.settings import Settings, SettingsError
from papita_core.vault import crypto

log = logging.getLogger(__name__)

GENERATED = "keys/master.key"


class MasterKey(Protocol):
    """Wraps root keys. A key management service is one more implementation of this.

    `wrap` and `unwrap` raise `MasterKeyUnavailable` where such a service does not do its part.
    """

    @property
    def source(self) -> str:
        """Where the key comes from, for people: a setting, a file or an address."""
        ...

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

    def __init__(self, key: bytes, source: str = "") -> None:
        self.source = source
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


def bound(context: tuple[bytes, ...]) -> bytes:
    """What a key service is told that a root key is bound to; no two contexts give the same."""
    parts = (b"papita root-key", *context)
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def find_master_key(settings: Settings, *, generate: bool) -> MasterKey | None:
    """The master key in force, or None where there is none and none may be generated.

    Raises `SettingsError` where a key is named but cannot be used.
    """
    return next(iter(master_keys(settings, generate=generate)), None)


def master_keys(settings: Settings, *, generate: bool) -> list[MasterKey]:
    """The same, followed by the generated key that is to come, where there is one."""
    if settings.master_key_file is not None:
        warn_if_exposed(settings.master_key_file)
        return [_named_file(settings.master_key_file, "PAPITA_MASTER_KEY_FILE")]
    if settings.master_key is not None:
        raw = _parse(settings.master_key.get_secret_value(), "PAPITA_MASTER_KEY")
        return [LocalMasterKey(raw, "PAPITA_MASTER_KEY")]
    if settings.master_key_uri is not None:
        return [_of_service(settings.master_key_uri)]
    path, coming = generated_paths(settings)
    if generate:
        create_private_file(path, base64.urlsafe_b64encode(crypto.new_key()).decode() + "\n")
    found = (_generated(path), _generated(coming))
    return [key for key in found if key is not None]


def named_master_key(where: str) -> MasterKey:
    """The key that somebody names on the command line: a URI of a service, or a file.

    Raises `SettingsError`.
    """
    return _of_service(where) if SERVICE.match(where) else _named_file(Path(where), "--to")


def generated_paths(settings: Settings) -> tuple[Path, Path]:
    """`keys/master.key` and, beside it, the one that is to come."""
    path = settings.keys_dir / "master.key"
    return path, path.with_name("master.key.next")


def next_generated(settings: Settings) -> LocalMasterKey:
    """The generated key that is to come, made where it is not there yet."""
    _, coming = generated_paths(settings)
    create_private_file(coming, base64.urlsafe_b64encode(crypto.new_key()).decode() + "\n")
    key = _generated(coming)
    if key is None:
        raise SettingsError("keys/master.key.next: the file was taken away; run this again")
    return key


def put_next_in_force(settings: Settings) -> None:
    """Makes the generated key that is to come `keys/master.key`, in one step."""
    path, coming = generated_paths(settings)
    try:
        coming.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise SettingsError(f"keys/master.key: cannot be replaced: {error.strerror}") from None


def exposed(path: Path) -> bool:
    """Whether other accounts of the machine may read a file."""
    try:
        return bool(path.stat().st_mode & 0o044)
    except OSError:
        return False


def warn_if_exposed(path: Path) -> None:
    # Not refused, as for a generated file: secrets that Docker or Kubernetes mount are like that.
    if exposed(path):
        log.warning(
            "PAPITA_MASTER_KEY_FILE: other accounts of this machine may read the file;"
            " unless it is a mounted secret, run chmod 600 on it"
        )


def _generated(path: Path) -> LocalMasterKey | None:
    text = read_private_file(path)
    if text is None:
        return None
    return LocalMasterKey(_parse(text, f"keys/{path.name}"), f"keys/{path.name}")


SERVICE = re.compile(r"(aws-kms|vault-transit):")


def _of_service(uri: str) -> MasterKey:
    kind, _, rest = uri.partition(":")
    if kind == "aws-kms":
        from papita_core.vault.aws_kms import AwsKmsMasterKey

        return AwsKmsMasterKey(rest)
    from papita_core.vault.vault_transit import VaultTransitMasterKey

    return VaultTransitMasterKey(rest)


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
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
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


def _named_file(path: Path, where: str) -> LocalMasterKey:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        raise SettingsError(f"{where}: the file cannot be read") from None
    return LocalMasterKey(_parse(text, where), "PAPITA_MASTER_KEY_FILE")


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
