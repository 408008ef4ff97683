"""Brings the catalogues in line with the code: finds every text, adds new ones, drops old ones.

A text is what stands as a literal in `t`, `tn`, `N_` or `later`. The sentences of the cores are
keys as well, as they are: those of the modules named here, unless they have values in them.
"""

from __future__ import annotations

import ast
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po

from papita_core.credential_types import CREDENTIAL_TYPES
from portal.texts import FOLDER, LANGUAGES

ROOT: Final = FOLDER.parent.parent
OURS: Final = ("Home.py", "pages", "portal")
CORES: Final = (
    "papita_core/errors.py",
    "papita_core/grants",
    "papita_core/outbound.py",
    "papita_core/projects",
    "papita_core/usage/budgets.py",
    "papita_core/users",
    "papita_core/vault",
    "alchat_core/attachments/reading.py",
    "alchat_core/attachments/service.py",
    "alchat_core/client",
    "alchat_core/conversations",
    "alchat_core/errors.py",
    "alchat_core/imports",
    "alchat_core/providers",
    "alchat_core/runs/service.py",
    "alchat_core/shares",
    "alchat_core/tools/connection.py",
)
TRANSLATED: Final = [name for name in LANGUAGES if name != "en"]
CALLS: Final = ("t", "tn", "N_", "later")
_SENTENCE = re.compile(r"[A-Z][^{}]* [^{}]*[.!?]")


@dataclass(frozen=True, slots=True)
class Text:
    """`many` where it is counted; `file` is the first that has it."""

    one: str
    many: str | None
    file: str

    @property
    def key(self) -> str | tuple[str, str]:
        return self.one if self.many is None else (self.one, self.many)


def path(language: str) -> Path:
    return FOLDER / f"{language}.po"


def read(language: str) -> Catalog:
    with path(language).open("rb") as source:
        return read_po(source, locale=language)


def collect() -> Mapping[str, Text]:
    """Every text by its English singular."""
    found: dict[str, Text] = {}
    for text in (*_of_pages(), *_of_cores()):
        known = found.setdefault(text.one, text)
        if known.many is None and text.many is not None:
            found[text.one] = Text(text.one, text.many, known.file)
    return dict(sorted(found.items()))


def update(language: str) -> tuple[int, int]:
    """Writes the catalogue anew; how many texts lack a translation, and how many were dropped."""
    before, after = read(language), Catalog(locale=language, fuzzy=False)
    texts, untranslated = collect(), 0
    for text in texts.values():
        old = before.get(text.one)
        said = (old.string if old is not None and old.id == text.key else "") or ""
        untranslated += not (said if isinstance(said, str) else all(said))
        after.add(text.key, said, locations=[(text.file, 1)])
    dropped = sum(1 for message in before if message.id and _key(message.id) not in texts)
    whole = path(language).read_text("utf-8")
    header = whole.split("\n\n", 1)[0].rstrip("\n")
    body = io.BytesIO()
    write_po(body, after, width=100, omit_header=True, sort_output=True, include_lineno=False)
    path(language).write_text(f"{header}\n\n{body.getvalue().decode('utf-8').strip()}\n", "utf-8")
    return untranslated, dropped


def calls_in(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """The calls of `t`, `tn`, `N_` and `later`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
            yield node.func.id, node


def sources(*places: str) -> Iterator[tuple[str, ast.Module]]:
    """The modules below these places, by their path, parsed."""
    for place in places:
        at = ROOT / place
        for file in sorted(at.rglob("*.py")) if at.is_dir() else [at]:
            yield file.relative_to(ROOT).as_posix(), ast.parse(file.read_text("utf-8"))


def _key(key: object) -> str:
    return str(key[0] if isinstance(key, tuple | list) else key)


def _of_pages() -> Iterator[Text]:
    for file, tree in sources(*OURS):
        for name, call in calls_in(tree):
            literals = [it.value for it in call.args if isinstance(it, ast.Constant)]
            if name == "tn" and len(literals) >= 2:
                yield Text(str(literals[0]), str(literals[1]), file)
            elif name != "tn" and literals:
                yield Text(str(literals[0]), None, file)


def _of_cores() -> Iterator[Text]:
    kinds = "papita_core/credential_types.py"
    for kind in CREDENTIAL_TYPES.values():
        for text in (kind.title, kind.summary, *(field.label for field in kind.fields)):
            yield Text(text, None, kinds)
    for file, tree in sources(kinds, *CORES):
        passed = set(_not_sentences(tree))
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and node not in passed
                and _SENTENCE.fullmatch(node.value)
            ):
                yield Text(node.value, None, file)


def _not_sentences(tree: ast.AST) -> Iterator[ast.AST]:
    """Docstrings, and the pieces of strings that have values in them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield from node.values
