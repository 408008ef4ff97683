"""Cuts growing Markdown at the boundaries of its top-level blocks.

A block that is cut off never changes again, so a page can draw it once; only the text after
the last boundary is still in motion. The pieces, put together, are the text, byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin


@dataclass(frozen=True, slots=True)
class Outline:
    """Where the top-level blocks of a text begin (line numbers), and what spans all of them."""

    starts: tuple[int, ...]
    has_references: bool


def _block_parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark").enable("table").use(dollarmath_plugin)
    parser.core.ruler.disable(["inline", "text_join"])
    return parser


_PARSER = _block_parser()


def outline(text: str) -> Outline:
    """The outline of a text of complete lines."""
    text = _with_dollars(text)
    env: dict[str, object] = {}
    tokens = _PARSER.parse(text, env)
    starts: list[int] = []
    lines = text.split("\n")
    for token in tokens:
        if token.level or token.nesting < 0 or token.map is None:
            continue
        first, end = token.map
        starts.append(first)
        if token.type in READ_AS_TEXT and _opens_maths(lines[first:end]):
            break
    return Outline(tuple(starts), bool(env.get("references")) or "\n[^" in "\n" + text)


# Models write display maths as \[ … \] as well: for the outline that is $$ … $$, as long.
_DISPLAY = re.compile(r"^([ \t>]*)\\\[(.*?)\\\](?=[ \t]*$)", re.DOTALL | re.MULTILINE)
_DISPLAY_OPENS = re.compile(r"^([ \t>]*)\\\[(?!.*\\\])", re.DOTALL | re.MULTILINE)


def _with_dollars(text: str) -> str:
    if "\\[" not in text:
        return text
    return _DISPLAY_OPENS.sub(r"\1$$", _DISPLAY.sub(r"\1$$\2$$", text))


# Display maths may hold blank lines, rules and bars. Until its closing dollars are there, the
# parser takes it for one of these; whatever follows may belong to it.
READ_AS_TEXT = frozenset({"paragraph_open", "heading_open", "table_open"})


def _opens_maths(lines: Sequence[str]) -> bool:
    return any(line.lstrip(" \t>").startswith("$$") for line in lines) or (
        "\n".join(lines).count("$$") % 2 == 1
    )


class BlockSplitter:
    """Takes text as it arrives; gives back blocks that are finished.

    >>> splitter = BlockSplitter()
    >>> splitter.feed("# Title\\n\\nFirst wo")
    ['# Title\\n\\n']
    >>> splitter.tail
    'First wo'
    """

    def __init__(self, outline_of: Callable[[str], Outline] = outline) -> None:
        self._outline_of = outline_of
        self._scanned = 0
        self.tail = ""
        self.has_references = False

    def feed(self, text: str) -> list[str]:
        """Adds text; returns the blocks that this finished, in order, none most of the time."""
        self.tail += text
        complete = self.tail.rfind("\n") + 1
        # A boundary can only come with a further line, and a scan costs what the tail is long:
        # one long block is scanned each time it has grown by a good part.
        if complete - self._scanned <= self._scanned // 8:
            return []
        found = self._outline_of(self.tail[:complete])
        self._scanned = complete
        self.has_references = self.has_references or found.has_references
        if len(found.starts) < 2:
            return []
        offsets = _line_offsets(self.tail[:complete])
        # Blank lines and definitions before the first block go with it.
        cuts = [0, *(offsets[line] for line in found.starts[1:])]
        blocks = [self.tail[a:b] for a, b in pairwise(cuts)]
        self.tail = self.tail[cuts[-1] :]
        self._scanned = complete - cuts[-1]
        return blocks


def split(text: str) -> list[str]:
    """The blocks of a finished text.

    A text with link definitions or footnotes is one block, since those reach across blocks.
    """
    if not text:
        return []
    splitter = BlockSplitter()
    blocks = splitter.feed(text if text.endswith("\n") else text + "\n")
    if splitter.has_references:
        return [text]
    rest = splitter.tail if text.endswith("\n") else splitter.tail[:-1]
    return [*blocks, rest] if rest else blocks


def _line_offsets(text: str) -> list[int]:
    offsets = [0]
    position = text.find("\n") + 1
    while position:
        offsets.append(position)
        position = text.find("\n", position) + 1
    return offsets
