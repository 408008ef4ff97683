"""Reads the keys out of a `.env` file, or out of some lines of one.

A variable is recognised by its name first (`OPENAI_API_KEY`, also `MY_OPENAI_API_KEY_2`), then by
how its value begins. Nothing is interpolated, and no value is ever shown: what is left out is named
by variable and line alone.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from dotenv.parser import Binding, parse_stream

from papita_core.credential_types import (
    CREDENTIAL_TYPES,
    CredentialType,
    Field,
    type_by_key,
)
from papita_core.errors import InvalidInput
from papita_core.vault.checks import hint
from papita_core.vault.records import NewCredential

MAX_LINES = 1000
MAX_BYTES = 64 * 1024

NOT_READABLE = "This line cannot be read. Write it as NAME=value."
NO_VALUE = "It has no value."
UNKNOWN = "It is no key that is known here."
ANOTHER_NAME = "Another variable says the same thing, and that one counts."
TWICE = "It has the same value as an earlier one."
LATER_LINE = "A later line gives it another value, and that one counts."
NOT_A_KEY = "Its value has spaces, line breaks or signs that no key has."
NO_ADDRESS = "This type needs a base URL. Add its variable, or add the key by hand."
NO_KEY_FOR_IT = "It belongs to a key, and that key is not here."


@dataclass(frozen=True, slots=True)
class Candidate:
    """One key that was recognised. `base_url` is None where the type's own is meant."""

    name: str
    credential_type: str
    secret: dict[str, str] = field(repr=False)
    base_url: str | None
    hint: str
    label: str
    line: int

    def new(self, project_id: str | None = None) -> NewCredential:
        """What `CredentialService.create_many` and `test_secret` take."""
        return NewCredential(
            self.credential_type,
            self.secret,
            label=self.label,
            project_id=project_id,
            base_url=self.base_url,
        )


@dataclass(frozen=True, slots=True)
class Skipped:
    """One variable that was left out. `name` is empty where the line has none to show."""

    name: str
    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class EnvFile:
    candidates: list[Candidate]
    skipped: list[Skipped]


def read_env(text: str) -> EnvFile:
    """What a `.env` file holds, in its order. Raises `InvalidInput` where it is too large."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES or text.count("\n") >= MAX_LINES:
        raise InvalidInput(
            {
                "env": f"Paste at most {MAX_LINES} lines and {MAX_BYTES // 1024} KiB."
                " Leave out what holds no keys."
            }
        )
    reading = _Reading()
    for variable in _variables(text, reading.skipped):
        reading.take(variable)
    candidates = reading.candidates()
    return EnvFile(candidates, sorted(reading.skipped, key=lambda item: item.line))


@dataclass(frozen=True, slots=True)
class _Variable:
    name: str
    value: str = field(repr=False)
    line: int


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What a variable's name says: a field of a type, or, without one, the type's base URL.

    `kin` is the rest of the name; a key and its base URL have the same.
    """

    kind: CredentialType
    item: Field | None
    kin: tuple[str, str]


@dataclass(slots=True)
class _Group:
    """The variables that make one credential."""

    kind: CredentialType
    secret: dict[str, str] = field(default_factory=dict, repr=False)
    base_url: str | None = None
    named: list[_Variable] = field(default_factory=list)
    key: _Variable | None = None


class _Reading:
    def __init__(self) -> None:
        self.skipped: list[Skipped] = []
        self._groups: dict[tuple[str, tuple[str, str]], _Group] = {}

    def take(self, variable: _Variable) -> None:
        meaning = _meaning(variable.name)
        if meaning is None:
            kind = type_by_key(variable.value)
            if kind is None:
                self._skip(variable, UNKNOWN)
                return
            # Recognised by its value: it stands alone, whatever else the file has.
            meaning = _Meaning(kind, kind.fields[0], ("", f"line {variable.line}"))
        group = self._groups.setdefault((meaning.kind.id, meaning.kin), _Group(meaning.kind))
        if meaning.item is None:
            group.base_url = variable.value
        elif meaning.item.name in group.secret:  # two names of one field: the first one stays
            self._skip(variable, ANOTHER_NAME)
            return
        elif not _is_key(variable.value):
            self._skip(variable, NOT_A_KEY)
            return
        else:
            group.secret[meaning.item.name] = variable.value
        group.named.append(variable)
        if meaning.item is not None and meaning.item is meaning.kind.fields[0]:
            group.key = variable

    def candidates(self) -> list[Candidate]:
        """What can be stored; everything else of the groups goes to `skipped`."""
        found: list[Candidate] = []
        seen: list[object] = []
        for group in self._groups.values():
            what = (group.kind.id, group.secret, group.base_url)
            reason = TWICE if what in seen else _why_not(group)
            seen.append(what)
            if reason is not None:
                for variable in group.named:
                    self._skip(variable, reason)
                continue
            first = group.key or group.named[0]
            plain = first.name in (*group.kind.env_names, *group.kind.base_url_env_names)
            title = group.kind.title
            found.append(
                Candidate(
                    name=first.name,
                    credential_type=group.kind.id,
                    secret=group.secret,
                    base_url=group.base_url,
                    hint=hint(group.kind, group.secret),
                    label=title if plain or not first.name else f"{title} ({first.name})",
                    line=first.line,
                )
            )
        return sorted(found, key=lambda item: item.line)

    def _skip(self, variable: _Variable, reason: str) -> None:
        self.skipped.append(Skipped(variable.name, variable.line, reason))


def _variables(text: str, skipped: list[Skipped]) -> Iterator[_Variable]:
    """Each variable once, with its last value."""
    bindings: dict[str, tuple[Binding, int]] = {}
    for binding in parse_stream(io.StringIO(text.removeprefix("\ufeff"))):
        source = binding.original
        # The parser counts from the blank lines before a variable.
        blank = source.string[: len(source.string) - len(source.string.lstrip())]
        line = source.line + len(re.findall(r"\r\n|\n|\r", blank))
        if binding.error:
            skipped.append(Skipped("", line, NOT_READABLE))
        elif binding.key is not None:
            yielded = _of_bare_line(binding) or binding
            key = yielded.key or f"\0{line}"
            if key in bindings:
                skipped.append(Skipped(_shown(key), bindings[key][1], LATER_LINE))
            bindings[key] = (yielded, line)
    for key, (binding, line) in bindings.items():
        name = _shown(key)
        if binding.value is None:
            skipped.append(Skipped("", line, NOT_READABLE))
        elif not binding.value.strip():
            # A key that ends in `=` and stands alone looks like a name without a value.
            skipped.append(Skipped(name if name.isupper() else "", line, NO_VALUE))
        else:
            yield _Variable(name, binding.value.strip(), line)


def _of_bare_line(binding: Binding) -> Binding | None:
    """A line that is nothing but a key."""
    if binding.value is None and binding.key is not None and type_by_key(binding.key) is not None:
        return binding._replace(key=None, value=binding.key)
    return None


def _shown(name: str) -> str:
    """The name, where it is one and no key that stands in its place."""
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", name) and not any(
        name.startswith(kind.key_prefixes) for kind in CREDENTIAL_TYPES.values()
    ):
        return name
    return ""


def _meaning(name: str) -> _Meaning | None:
    """What the longest known name inside of this one stands for."""
    best: tuple[int, _Meaning] | None = None
    for kind in CREDENTIAL_TYPES.values():
        names: list[tuple[str, Field | None]] = [
            (word, item) for item in kind.fields for word in item.env_names
        ]
        names += [(word, None) for word in kind.base_url_env_names]
        for word, item in names:
            match = re.search(rf"(?:^|_){word}(?:$|_)", name.upper())
            if match and (best is None or len(word) > best[0]):
                kin = name.upper()[: match.start()], name.upper()[match.end() :]
                best = len(word), _Meaning(kind, item, kin)
    return None if best is None else best[1]


def _is_key(value: str) -> bool:
    return value.isascii() and value.isprintable() and " " not in value and len(value) <= 4096


def _why_not(group: _Group) -> str | None:
    kind = group.kind
    if group.key is None and (kind.key_required or group.base_url is None):
        return NO_KEY_FOR_IT
    if group.key is not None and group.base_url is None:
        # A key that its name puts to one provider and its look to another is sent to neither.
        other = type_by_key(group.key.value)
        if other is not None and other.id != kind.id:
            return f"The name says {kind.title}, the value looks like a key of {other.title}."
    if group.base_url is None and kind.base_url_required:
        return NO_ADDRESS
    return None
