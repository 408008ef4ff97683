"""Password hashing with Argon2id (RFC 9106), parameters kept in the hash itself; and which
passwords are too easy to guess, judged here and offline by zxcvbn and its lists of leaked ones.
"""

from __future__ import annotations

import base64
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

MEMORY_KIB = 64 * 1024
ITERATIONS = 2
MIN_LENGTH = 10
MAX_LENGTH = 1024
LOWEST_SCORE, GOOD_SCORE = 2, 3
# zxcvbn takes time with the square of the length: so many characters take it a twentieth of a
# second at most.
JUDGED = 48
LEAKED = "This password is on public lists of leaked passwords. Take another one."
MORE_WORDS = "Add a word or two that have nothing to do with each other."
TOO_EASY = "This password is too easy to guess. Add a word or two that are unrelated to it."
_ADVICE = {
    "passwords": "It is built around a very common password. Take a few unrelated words instead.",
    "user_inputs": "It is built around your name or e-mail. Take a few unrelated words instead.",
    "surnames": "Names are easy to guess. Add a word or two that are no names.",
    "male_names": "Names are easy to guess. Add a word or two that are no names.",
    "female_names": "Names are easy to guess. Add a word or two that are no names.",
    "spatial": "Rows of keys are easy to guess. Take a few unrelated words instead.",
    "repeat": "Repeating something hardly helps. Add a word or two that are not in it yet.",
    "sequence": "Sequences such as abc are easy to guess. Take a few unrelated words instead.",
    "regex": "Years are easy to guess. Take a few unrelated words instead.",
    "date": "Dates are easy to guess. Take a few unrelated words instead.",
}

# Each hash takes 64 MiB: a crowd at the door waits in line rather than taking the memory.
_at_once = threading.BoundedSemaphore(4)
_judging = threading.Lock()


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


@dataclass(frozen=True, slots=True)
class Strength:
    """`score` is 0 (guessed at once) to 4 (out of reach); `advice` is a sentence that says what
    would help, empty where nothing needs to. `leaked`: it stands on a list of leaked passwords.
    """

    score: int
    advice: str = ""
    leaked: bool = False


def problem_with(password: str, *, username: str = "", words: Iterable[str] = ()) -> str | None:
    """Why a password is not accepted, as a sentence, or None.

    `words` is what else strangers know of the user: the name, the e-mail.
    """
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
    found = strength(password, username, *words)
    if found.leaked:
        return LEAKED
    if found.score < LOWEST_SCORE:
        return TOO_EASY if found.advice == MORE_WORDS else found.advice
    return None


def strength(password: str, *words: str) -> Strength:
    """How hard a password is to guess for somebody who knows `words`, of which each part counts.

    Of a long password the beginning is judged alone: what is hard in it stays hard with more.
    """
    if not password:
        return Strength(0, MORE_WORDS)
    judged = password[:JUDGED]
    known = [part for word in words for part in _parts(word)]
    # It writes the words into a table that all calls share, and the table is walked meanwhile.
    with _judging:
        found = _zxcvbn()(judged, known, JUDGED)
    score, sequence = int(found["score"]), found["sequence"]
    sole = sequence[0] if len(sequence) == 1 and judged == password else {}
    if sole.get("dictionary_name") == "passwords" and not sole.get("reversed"):
        return Strength(min(score, LOWEST_SCORE - 1), LEAKED, leaked=True)
    return Strength(score, "" if score >= GOOD_SCORE else _advice(sequence))


def warm_up() -> None:
    """Reads the lists, a sixth of a second, before somebody waits for them."""
    _zxcvbn()


@cache
def _zxcvbn() -> Callable[..., dict[str, Any]]:
    # Here and not above: most processes and pages never judge a password.
    from zxcvbn import zxcvbn

    judge: Callable[..., dict[str, Any]] = zxcvbn
    return judge


def _parts(word: str) -> set[str]:
    """A name or an e-mail, and what it is made of."""
    return {part for part in (word, *re.split(r"[\W_]+", word)) if len(part) > 2}


def _advice(sequence: Sequence[Mapping[str, Any]]) -> str:
    """What would help against the longest of the patterns that a password is made of."""
    if not sequence:
        return MORE_WORDS
    longest = max(sequence, key=lambda match: len(match["token"]))
    if longest["pattern"] == "dictionary":
        return _ADVICE.get(longest["dictionary_name"], MORE_WORDS)
    return _ADVICE.get(longest["pattern"], MORE_WORDS)
