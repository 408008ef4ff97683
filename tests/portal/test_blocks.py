"""Block-wise drawing loses nothing, cuts nothing in two, and costs what the text is long."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from portal.blocks import BlockSplitter, Outline, outline, split

SAMPLES = {
    "fence": "Look:\n\n```python\ndef f():\n\n    return 1\n\n# not a title\n```\n\nDone.\n",
    "tilde fence": "~~~\na\n\n```\nb\n~~~\n\nafter\n",
    "list": "Steps\n\n1. one\n\n   more of one\n\n2. two\n   - inner\n\n     deep\n\nEnd.\n",
    "table": "Intro\n| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n\nafter\n",
    "maths": "Let\n\n$$\na = b\n\n+ c\n$$\n\nand so on\n",
    "quote": "> one\n>\n> two\nlazy\n\nout\n",
    "setext": "Title\n=====\n\ntext\n",
    "indented code": "text\n\n    a\n\n    b\n\nout\n",
    "crlf": "one\r\n\r\n- a\r\n- b\r\n\r\ntwo\r\n",
    "leading blank lines": "\n\n\none\n\ntwo\n",
}
WHOLE = {
    "fence": "```python\ndef f():\n\n    return 1\n\n# not a title\n```",
    "list": "1. one\n\n   more of one\n\n2. two\n   - inner\n\n     deep",
    "table": "| 3 | 4 |",
    "maths": "$$\na = b\n\n+ c\n$$",
    "quote": "> one\n>\n> two\nlazy",
    "indented code": "    a\n\n    b",
}

pieces = st.sampled_from(
    (
        "a word ",
        "\n",
        "\n\n",
        "# T\n",
        "- x\n",
        "1. y\n",
        "```\n",
        "~~~ py\n",
        "    in\n",
        "$$\n",
        "> q\n",
        "---\n",
        "$$ ",
        "<div>\n",
        "\r\n",
        "  ",
        "| a | b |\n",
        "|---|---|\n",
        "[a]: /u\n",
    )
)


@given(st.lists(pieces | st.text(max_size=8), max_size=60), st.data())
def test_the_pieces_are_the_text_however_it_arrives(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    splitter = BlockSplitter()
    blocks: list[str] = []
    position = 0
    while position < len(text):
        step = data.draw(st.integers(1, 40))
        blocks += splitter.feed(text[position : position + step])
        position += step
    assert "".join(blocks) + splitter.tail == text
    assert all(blocks)
    assert "".join(split(text)) == text


@given(st.lists(pieces, max_size=40))
@example(["$$ ", "\n", "---\n", "# T\n", "$$\n"])
@example(["$$ ", "\n", "$$ ", "# T\n", "# T\n", "$$ "])
@example(["$$ | a\n", "|---|---|\n", "\n", "# T\n", "$$\n"])
def test_a_block_that_was_cut_off_would_be_cut_there_in_the_whole_text(parts: list[str]) -> None:
    text = "".join(parts)
    splitter = BlockSplitter()
    boundaries = set()
    position = 0
    for character in text:
        for block in splitter.feed(character):
            position += len(block)
            boundaries.add(position)
    lines = text.split("\n")
    starts = {sum(len(line) + 1 for line in lines[:n]) for n in outline(text).starts}
    assert boundaries <= starts


@pytest.mark.parametrize("name", SAMPLES)
def test_a_construct_stays_in_one_piece(name: str) -> None:
    text = SAMPLES[name]
    for step in (1, 3, 7, len(text)):
        splitter = BlockSplitter()
        blocks = [
            block
            for start in range(0, len(text), step)
            for block in splitter.feed(text[start : start + step])
        ]
        assert "".join([*blocks, splitter.tail]) == text
        if name in WHOLE:
            assert any(WHOLE[name] in block for block in [*blocks, splitter.tail])


def test_only_the_last_block_is_in_motion() -> None:
    splitter = BlockSplitter()
    assert splitter.feed("One.\n\nTwo.\n\nThr") == ["One.\n\n"]
    assert splitter.tail == "Two.\n\nThr"
    assert splitter.feed("ee.\n") == ["Two.\n\n"]
    assert splitter.tail == "Three.\n"


def test_definitions_keep_a_finished_text_in_one_block() -> None:
    text = "See [here].\n\nMore.\n\n[here]: https://example.org\n"
    assert split(text) == [text]
    assert split("A note[^1].\n\nMore.\n\n[^1]: Small.\n") == [
        "A note[^1].\n\nMore.\n\n[^1]: Small.\n"
    ]
    assert len(split("One.\n\nTwo.")) == 2
    assert split("") == []


@pytest.mark.parametrize("separator", ["\n\n", "\n"], ids=["paragraphs", "one long fence"])
def test_the_work_grows_with_the_text_and_not_with_its_square(separator: str) -> None:
    def work(words: int) -> int:
        scanned = 0

        def counting(text: str) -> Outline:
            nonlocal scanned
            scanned += len(text)
            return outline(text)

        splitter = BlockSplitter(counting)
        splitter.feed("```\n" if separator == "\n" else "")
        for number in range(words):
            splitter.feed("word " if number % 60 else "word" + separator)
        return scanned

    assert work(8000) < 3 * work(4000)
