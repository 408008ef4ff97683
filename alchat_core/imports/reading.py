"""What is in an uploaded file, one JSON value after the other, within limits.

Nothing is unpacked to a disk, and of a long list only one element is in memory at a time.
"""

from __future__ import annotations

import codecs
import json
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from alchat_core.imports import chatgpt, own
from alchat_core.imports.values import Found, NotTaken, line_of

CHUNK = 1 << 16
_SPACE = re.compile(r"[ \t\r\n]*")
_CHATGPT_FILE = re.compile(r"conversations([-_.]?\d+)?\.json", re.IGNORECASE)
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError)
PEEK = 4096


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one import. Bytes are those of the unpacked file; `depth` is messages in one branch."""

    members: int
    bytes: int
    conversations: int
    depth: int
    chars: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """A conversation, by its title, or a file of the archive that was not taken, and why."""

    name: str | None
    reason: str


class Stopped(Exception):
    """The rest of the file is not read; `str()` says why."""


def conversations_in(
    file: IO[bytes], limits: Limits, left_out: Counter[str]
) -> Iterator[Found | Skipped]:
    """All conversations of a file. Raises `Stopped`."""
    count = 0
    for name, raw in _values(file, limits, left_out):
        if isinstance(raw, Skipped):
            yield raw
            continue
        for one in _conversations(raw):
            count += 1
            if count > limits.conversations:
                raise Stopped(
                    f"An import takes at most {limits.conversations} conversations."
                    " Split the file and import the rest by itself."
                )
            yield _taken(one, name, limits, left_out)


def _taken(raw: Any, name: str | None, limits: Limits, left_out: Counter[str]) -> Found | Skipped:
    title = line_of(raw.get("title"), 200) if isinstance(raw, dict) else None
    try:
        if isinstance(raw, dict) and str(raw.get("format", "")).startswith(own.FAMILY):
            found = own.found_in(raw, left_out, deepest=limits.depth)
        elif isinstance(raw, dict) and isinstance(raw.get("mapping"), dict):
            found = chatgpt.found_in(raw, left_out, deepest=limits.depth)
        else:
            return Skipped(
                title or name, "It is no conversation in a form that AL-Chat can import."
            )
        if any(len(message.content) > limits.chars for message in found.messages):
            raise NotTaken(f"One of its messages has more than {limits.chars} characters.")
    except NotTaken as reason:
        return Skipped(title or name, str(reason))
    except RecursionError:
        return Skipped(title or name, _TOO_DEEP)
    return found


def _conversations(raw: Any) -> list[Any]:
    """A file may hold one conversation, or an object around a list of them."""
    inside = raw.get("conversations") if isinstance(raw, dict) else None
    if isinstance(inside, list) and "mapping" not in raw:
        return inside
    return [raw]


def _values(
    file: IO[bytes], limits: Limits, left_out: Counter[str]
) -> Iterator[tuple[str | None, Any]]:
    begin = file.read(4)
    file.seek(0)
    if begin.startswith(b"PK"):
        yield from _members(file, limits, left_out)
        return
    try:
        for value in elements(file):
            yield None, value
    except NotTaken as reason:
        yield None, Skipped(None, str(reason))


def _members(
    file: IO[bytes], limits: Limits, left_out: Counter[str]
) -> Iterator[tuple[str | None, Any]]:
    try:
        archive = zipfile.ZipFile(file)
    except (*_BROKEN, ValueError):
        raise Stopped(
            "The ZIP archive cannot be read; it may be damaged or cut short."
            " Download or make it once more."
        ) from None
    with archive:
        members = archive.infolist()
        if len(members) > limits.members:
            raise Stopped(
                f"An archive may hold at most {limits.members} files. Take out what is no"
                " conversation, or split it."
            )
        wanted = []
        for member in sorted(members, key=lambda one: one.filename):
            if member.is_dir():
                continue
            if _leads_out(member.filename):
                yield (
                    None,
                    Skipped(line_of(member.filename, 200), "Its name leads out of the archive."),
                )
            elif _holds_conversations(archive, member):
                wanted.append(member)
            elif _base(member.filename) not in ("index.json", "index.md"):
                left_out["files"] += 1
        if sum(member.file_size for member in wanted) > limits.bytes:
            raise Stopped(
                f"Unpacked, its conversations have more than {limits.bytes} bytes, which is the"
                " most that an import takes. Split the archive."
            )
        for member in wanted:
            name = line_of(member.filename, 200)
            try:
                with archive.open(member) as unpacked:
                    for value in elements(unpacked):
                        yield name, value
            except NotTaken as reason:
                yield name, Skipped(name, str(reason))
            except _BROKEN:
                yield name, Skipped(name, "It is damaged or encrypted, so it was not read further.")


def _base(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _leads_out(name: str) -> bool:
    return name.startswith("/") or bool(re.search(r"\\|:|(^|/)\.\.(/|$)", name))


def _holds_conversations(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    if _CHATGPT_FILE.fullmatch(_base(member.filename)):
        return True
    if not member.filename.lower().endswith(".json"):
        return False
    try:
        with archive.open(member) as unpacked:
            return f'"{own.FAMILY}'.encode() in unpacked.read(PEEK)
    except (*_BROKEN, ValueError):
        return False


def elements(stream: IO[bytes]) -> Iterator[Any]:
    """The elements of a JSON list, or the one value that is no list. Raises `NotTaken` where the
    JSON ends or breaks off too early, after what stands before.
    """
    text = _Text(stream)
    if text.next_sign() != "[":
        yield text.value()
        return
    text.at += 1
    if text.next_sign() == "]":
        return
    while True:
        yield text.value()
        sign = text.next_sign()
        text.at += 1
        if sign == "]":
            return
        if sign != ",":
            raise NotTaken(_BROKEN_OFF)


_TOO_DEEP = "Its JSON is nested too deeply."
_BROKEN_OFF = (
    "It is not valid JSON from some place on, as a download that was cut short is."
    " What stands before that place was read."
)


class _Text:
    """The text of a stream, of which `buffer[at:]` is still to be read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder()
        self._ended = False
        self.buffer = ""
        self.at = 0

    def next_sign(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            found = _SPACE.match(self.buffer, self.at)
            self.at = found.end() if found else self.at
            if self.at < len(self.buffer):
                return self.buffer[self.at]
            if not self._more():
                return ""

    def value(self) -> Any:
        if not self.next_sign():
            raise NotTaken(_BROKEN_OFF)
        while True:
            try:
                value, end = self._json.raw_decode(self.buffer, self.at)
            except RecursionError:
                raise NotTaken(_TOO_DEEP) from None
            except ValueError:
                if self._more():
                    continue
                raise NotTaken(_BROKEN_OFF) from None
            # A number may go on in what is not read yet.
            if end == len(self.buffer) and isinstance(value, int | float) and self._more():
                continue
            self.at = end
            return value

    def _more(self) -> bool:
        """Reads as much as there is in the buffer once more, so that a long value costs little."""
        if self._ended:
            return False
        rest = len(self.buffer) - self.at
        raw = self._stream.read(max(CHUNK, rest))
        self._ended = not raw
        try:
            text = self._decoder.decode(raw, final=self._ended)
        except UnicodeDecodeError:
            raise NotTaken("It is not UTF-8 text, which JSON has to be.") from None
        self.buffer = self.buffer[self.at :] + text
        self.at = 0
        return not self._ended
