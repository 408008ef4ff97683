"""The Markdown of an answer as this page shows it.

Maths is understood in all the ways in which models write it, and sums of money are no maths.
Images are links, since a page that loads them tells a stranger who reads it. What an answer cites
becomes a link to the source. Code stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import groupby

from markdown_it import MarkdownIt

from portal.blocks import split
from portal.words import typed

_PARSER = MarkdownIt("commonmark")
_PARSER.core.ruler.disable(["inline", "text_join"])
_CODE = frozenset({"fence", "code_block"})
_INLINE_CODE = re.compile(r"(?<!`)(`+)(?!`)(?:.+?)(?<!`)\1(?!`)", re.DOTALL)
_OF_INTEREST = re.compile(r"\$|\\[(\[]|!\[|\[\d")
_PARTS = re.compile(
    r"""
      (?P<begin>^[ \t>]*)? \\\[ (?P<display>(?:(?!\n[ \t]*\n[ \t]*\n).)+?) \\\] (?P<end>[ \t]*$)?
    | \\\( (?P<inline>(?:(?!\n[ \t]*\n).)+?) \\\)
    | (?P<maths> \$\$ .+? \$\$ | \$\$ | \$ (?![\s$]) (?:\\.|[^$\\\n])*? (?<!\s) \$ (?!\d) )
    | (?P<dollar>\$)
    | (?P<escaped>\\.)
    | \[ ! \[ (?P<linked>[^\]]*) \] \( [^)]* \) \] (?=\()
    | ! \[ (?P<image>[^\]]*) \] (?= [\[(] )
    | \[ (?P<cited> \d{1,3} (?: \s?[,;]\s? \d{1,3} )* ) \] (?![(:])
    """,
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)
_DIAGRAM = re.compile(r"\s*(`{3,}|~{3,})[ \t]*mermaid[ \t]*\n(.*?)\n[ \t]*\1[`~]*\s*", re.DOTALL)

Link = Callable[[int], str]


def diagram_of(block: str) -> str | None:
    """The Mermaid diagram that a block is, when its fence is closed."""
    found = _DIAGRAM.fullmatch(block) if "mermaid" in block else None
    return found[2] if found and found[2].strip() else None


def pieces(text: str, *, apart: bool) -> Iterator[str]:
    """The blocks of a text one by one, or `apart=False` as few as there can be: a diagram is always
    one of its own.
    """
    if apart:
        yield from split(text)
    elif "mermaid" not in text:
        if text:
            yield text
    else:
        for drawn, some in groupby(split(text), key=lambda block: diagram_of(block) is not None):
            blocks = list(some)
            yield from blocks if drawn else ["".join(blocks)]


def shown(text: str, sources: Collection[int] = (), link: Link | None = None) -> str:
    """The text as Streamlit's Markdown takes it; `link` gives the address of a source."""
    if not _OF_INTEREST.search(text) or text.lstrip().startswith(("```", "~~~")):
        return text

    def part(found: re.Match[str]) -> str:
        return _part(found, sources, link)

    return "".join(
        chunk if is_code else _PARTS.sub(part, chunk) for is_code, chunk in _by_code(text)
    )


def asked(text: str) -> str:
    """What a user wrote, as Streamlit's Markdown takes it."""
    return shown(typed(text))


def cited(text: str, sources: Collection[int]) -> list[int]:
    """The numbers of the sources that a text cites, in the order in which it does."""
    found: dict[int, None] = {}
    for is_code, chunk in _by_code(text):
        if not is_code:
            for match in _PARTS.finditer(chunk):
                numbers = _numbers(match["cited"] or "")
                if all(one in sources for one in numbers):
                    found.update(dict.fromkeys(numbers))
    return list(found)


def _part(found: re.Match[str], sources: Collection[int], link: Link | None) -> str:
    whole = found[0]
    if (display := found["display"]) is not None:
        return _display(display, found["begin"], found["end"])
    if (inline := found["inline"]) is not None:
        return f"${' '.join(inline.split())}$"
    if found["dollar"] is not None:
        return "\\$"
    if (linked := found["linked"]) is not None:
        return f"[{linked or ':material/image:'}]"
    if (image := found["image"]) is not None:
        return f"[:material/image: {image}]"
    numbers = _numbers(found["cited"] or "")
    if numbers and link is not None and all(one in sources for one in numbers):
        return " ".join(f"[\\[{one}\\]]({link(one)})" for one in numbers)
    return whole


def _display(maths: str, begin: str | None, end: str | None) -> str:
    """Maths that stands alone is set on lines of its own; other maths stays in its line."""
    if begin is None or end is None:
        return f"{begin or ''}$${' '.join(maths.split())}$${end or ''}"
    lines = [line.strip(" \t>") for line in maths.split("\n")]
    return "\n".join(begin + line for line in ("$$", *filter(None, lines), "$$"))


def _numbers(text: str) -> Sequence[int]:
    return [int(one) for one in re.findall(r"\d+", text)]


def _by_code(text: str) -> Iterator[tuple[bool, str]]:
    """The text in parts, and whether each is code."""
    lines = text.splitlines(keepends=True)
    place = 0
    for token in _PARSER.parse(text):
        if token.type in _CODE and token.map is not None and token.map[0] >= place:
            first, end = token.map
            yield from _by_inline_code("".join(lines[place:first]))
            yield True, "".join(lines[first:end])
            place = end
    yield from _by_inline_code("".join(lines[place:]))


def _by_inline_code(text: str) -> Iterator[tuple[bool, str]]:
    place = 0
    for found in _INLINE_CODE.finditer(text):
        yield False, text[place : found.start()]
        yield True, found[0]
        place = found.end()
    yield False, text[place:]
