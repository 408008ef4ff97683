"""Text as words that can be found: what the index keeps, and what a query becomes.

Neither engine splits or folds text itself, so both find the same in every version and locale:

- Case, accents and umlauts are folded (`Größe` is found as `grosse`), also half and full width.
- Scripts without spaces (Chinese, Japanese, Thai, …) and Korean, whose words carry endings, are
  kept as pairs of neighbouring characters. FTS5's own trigram tokenizer cannot find a word of one
  or two characters, which most words of these scripts are, and PostgreSQL's parser takes a whole
  sentence of them for one word. A longer word is found where all of its pairs are.
- Everything that is neither letter nor digit separates words; no sign has a meaning in a query.
- Each word begins with a mark of its owner: what one search costs depends on that owner's text
  alone. The mark only narrows; who may see a row is decided by its conversation.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

# Beyond these a text is only found by what comes before: PostgreSQL takes at most 1 MB of words.
MAX_INDEXED_CHARS = 400_000
MAX_INDEXED_BYTES = 800_000
MAX_WORD_CHARS = 64
MAX_QUERY_WORDS = 16

_PAIRED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u1100-\u11ff\u3130-\u318f\uac00-\ud7ff"  # Hangul
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
# Marks belong to their letters: vowel signs of India's scripts, say.
_MARKS = "".join(
    chr(code) for code in range(0x300, 0x1D00) if unicodedata.category(chr(code)).startswith("M")
)
_LETTER = f"(?:(?![{_PAIRED}])(?:[^\\W_]|[{_MARKS}]))"
_RUN = re.compile(f"(?P<paired>[{_PAIRED}]+)|{_LETTER}+")
_PLAIN = re.compile("[a-z0-9]+")
_ACCENTS = re.compile("[\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u064b-\u065f]")
_LETTERS = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "\u0131": "i", "æ": "ae", "œ": "oe", "þ": "th", "ð": "d"}
)


def fold(text: str) -> str:
    """Case, accents and widths taken away; letters of other scripts stay as they are."""
    if text.isascii():
        return text.lower()
    bare = _ACCENTS.sub("", unicodedata.normalize("NFKD", text.casefold()))
    return unicodedata.normalize("NFC", bare).casefold().translate(_LETTERS)


def words_of(text: str) -> Iterator[str]:
    """The folded words of a text, in order, with repetitions."""
    folded = fold(text)
    if folded.isascii():
        yield from [word[:MAX_WORD_CHARS] for word in _PLAIN.findall(folded)]
        return
    for found in _RUN.finditer(folded):
        run = found[0]
        if found["paired"]:
            # The last one stands alone, too: by it a single character is found as a beginning.
            for place in range(len(run)):
                yield run[place : place + 2]
        else:
            yield run[:MAX_WORD_CHARS]


@lru_cache(4096)
def mark_of(owner: str) -> str:
    """Eight letters or digits."""
    return hashlib.sha256(owner.encode()).hexdigest()[:8]


def indexed(owner: str, text: str) -> list[str]:
    """The words of a text as the index keeps them, each once."""
    mark = mark_of(owner)
    found = [mark + word for word in dict.fromkeys(words_of(text[:MAX_INDEXED_CHARS]))]
    if 4 * sum(map(len, found)) <= MAX_INDEXED_BYTES:
        return found
    size = 0
    for count, word in enumerate(found):
        size += len(word.encode())
        if size > MAX_INDEXED_BYTES:
            return found[:count]
    return found


class Query:
    """What a user typed, as words that all must be there; the last one may be a beginning.

    It is empty where there is nothing to look for; then nothing is found.
    """

    def __init__(self, text: str) -> None:
        self._whole: list[str] = []
        self._beginnings: list[str] = []
        runs = list(_RUN.finditer(fold(text)))[:MAX_QUERY_WORDS]
        for found in runs:
            run = found[0][:MAX_WORD_CHARS]
            if not found["paired"]:
                (self._beginnings if found is runs[-1] else self._whole).append(run)
            elif len(run) == 1:
                self._beginnings.append(run)
            else:
                self._whole += [run[place : place + 2] for place in range(len(run) - 1)]

    def __bool__(self) -> bool:
        return bool(self._whole or self._beginnings)

    def fts5(self, owner: str) -> str:
        """For MATCH; a word holds letters and digits alone, so nothing needs escaping."""
        mark = mark_of(owner)
        return " AND ".join(
            [f'"{mark}{word}"' for word in self._whole]
            + [f'"{mark}{word}"*' for word in self._beginnings]
        )

    def tsquery(self, owner: str) -> str:
        """For a cast to `tsquery`, which does not parse words as `to_tsquery` would."""
        mark = mark_of(owner)
        return " & ".join(
            [f"'{mark}{word}'" for word in self._whole]
            + [f"'{mark}{word}':*" for word in self._beginnings]
        )

    def marks(self, text: str) -> Iterator[tuple[int, int]]:
        """Where words of the query stand in a text, as (start, end), in order."""
        for found in _RUN.finditer(text):
            if found["paired"]:
                yield from self._pairs(found[0], found.start())
            elif any(self._is_hit(word) for word in words_of(found[0])):
                yield found.span()

    def _is_hit(self, word: str) -> bool:
        return word in self._whole or word.startswith(tuple(self._beginnings))

    def _pairs(self, run: str, start: int) -> Iterator[tuple[int, int]]:
        folded = [fold(char) for char in run]
        for place, char in enumerate(folded):
            pair = "".join(folded[place : place + 2])
            if pair in self._whole:
                yield start + place, start + min(place + 2, len(run))
            elif char in self._beginnings:
                yield start + place, start + place + 1


def snippet(
    text: str, query: Query, *, before: int = 60, length: int = 240
) -> list[dict[str, str | bool]]:
    """A piece of the text around its first hit, as [{"text", "hit"}]; … where it was cut."""
    marks = query.marks(text)
    first = next(marks, None)
    start = 0
    if first is not None and first[0] > before:
        start = first[0] - before
        space = text.find(" ", start, first[0])
        start = space + 1 if space >= 0 else start
    end = min(len(text), start + length)
    parts: list[dict[str, str | bool]] = []
    at = start

    def add(piece: str, hit: bool) -> None:
        if not piece:
            return
        if parts and parts[-1]["hit"] is hit:
            parts[-1]["text"] = f"{parts[-1]['text']}{piece}"
        else:
            parts.append({"text": piece, "hit": hit})

    if start:
        add("…", False)
    hit = first
    while hit is not None and hit[0] < end:
        add(text[at : hit[0]], False)
        add(text[max(at, hit[0]) : min(hit[1], end)], True)
        at = max(at, hit[1])
        hit = next(marks, None)
    add(text[at:end], False)
    if end < len(text):
        add("…", False)
    return parts
