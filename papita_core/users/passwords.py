"""Password hashing with Argon2id (RFC 9106), parameters kept in the hash itself."""

from __future__ import annotations

import base64
import os
import threading

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

MEMORY_KIB = 64 * 1024
ITERATIONS = 2
MIN_LENGTH = 10
MAX_LENGTH = 1024

# Each hash takes 64 MiB: a crowd at the door waits in line rather than taking the memory.
_at_once = threading.BoundedSemaphore(4)


def hash_password(password: str) -> str:
    """A PHC string with a fresh salt."""
    with _at_once:
        return Argon2id(
            salt=os.urandom(16),
            length=32,
            iterations=ITERATIONS,
            lanes=1,
            memory_cost=MEMORY_KIB,
        ).derive_phc_encoded(password.encode())


def dummy_hash() -> str:
    """A PHC string that no password fits, and that costs as much to check as a real one."""
    salt, digest = (base64.b64encode(os.urandom(size)).decode().rstrip("=") for size in (16, 32))
    return f"$argon2id$v=19$m={MEMORY_KIB},t={ITERATIONS},p=1${salt}${digest}"


def verify_password(password: str, encoded: str) -> bool:
    if len(password) > MAX_LENGTH:
        password = ""
    with _at_once:
        try:
            Argon2id.verify_phc_encoded(password.encode(), encoded)
        except (InvalidKey, ValueError):
            return False
    return True


def problem_with(password: str, *, username: str = "") -> str | None:
    """Why a password is not accepted, as a sentence, or None."""
    if len(password) < MIN_LENGTH:
        return f"The password needs at least {MIN_LENGTH} characters."
    if len(password) > MAX_LENGTH:
        return f"The password may have at most {MAX_LENGTH} characters."
    if password != password.strip():
        return "The password must not begin or end with a space."
    if len(set(password)) < 4:
        return "The password needs at least four different characters."
    if username and username.casefold() in password.casefold():
        return "The password must not contain the user name."
    return None
