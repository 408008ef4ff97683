"""What stands in an answer is shown as it was meant: maths, money, images, diagrams, citations."""

from __future__ import annotations

import pytest

from portal.blocks import split
from portal.chat.markdown import cited, diagram_of, pieces, shown


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r"Let \(a^2\) be", "Let $a^2$ be"),
        ("So\n\n\\[\na = b\n\\]\n\nQ.E.D.", "So\n\n$$\na = b\n$$\n\nQ.E.D."),
        ("  \\[ a \\]  \n", "  $$\n  a\n  $$\n"),
        (r"where \[a\] holds", "where $$a$$ holds"),
        ("It costs $5, or $6 a month.", r"It costs \$5, or \$6 a month."),
        ("$5-$6", r"\$5-\$6"),
        ("that $x + 1$ for $5", r"that $x + 1$ for \$5"),
        ("$$\nx\n\ny\n$$", "$$\nx\n\ny\n$$"),
        (r"already \$5", r"already \$5"),
        (r"`\(a\)` and `$5` stay", r"`\(a\)` and `$5` stay"),
        ("- a\n\n  ```tex\n  \\[ $5 ![x](y)\n  ```\n\n  $5", None),
        ("![a cat](https://x.test/c.png)", "[:material/image: a cat](https://x.test/c.png)"),
        ("[![b](https://x.test/b.svg)](https://x.test)", "[b](https://x.test)"),
        ("![a][1]", "[:material/image: a][1]"),
    ],
)
def test_maths_money_and_images(written: str, meant: str | None) -> None:
    expected = written[:-2] + "\\$5" if meant is None else meant
    assert shown(written) == expected


def test_only_what_is_a_source_is_cited() -> None:
    def link(number: int) -> str:
        return f"#s{number}"

    text = "So it is [1][2], but [7], `a[1]`, [1](/x), $m[1]$ and [1, 2]."
    assert shown(text, {1, 2}, link) == (
        "So it is [\\[1\\]](#s1)[\\[2\\]](#s2), but [7], `a[1]`, [1](/x), $m[1]$"
        " and [\\[1\\]](#s1) [\\[2\\]](#s2)."
    )
    assert cited(text, {1, 2, 7}) == [1, 2, 7]
    assert cited(text, {2}) == [2]


def test_a_diagram_is_one_when_its_fence_is_closed() -> None:
    assert diagram_of("```mermaid\ngraph TD\n  A --> B\n```\n\n") == "graph TD\n  A --> B"
    assert diagram_of("```mermaid\ngraph TD\n  A --> B\n") is None
    assert diagram_of("```python\nmermaid\n```\n") is None
    text = "One\n\nTwo\n\n```mermaid\ngraph TD\n```\n\nThree\n\nFour\n"
    assert [diagram_of(one) is not None for one in pieces(text, apart=False)] == [
        False,
        True,
        False,
    ]
    assert "".join(pieces(text, apart=False)) == "".join(pieces(text, apart=True)) == text


def test_maths_in_brackets_is_one_block() -> None:
    text = "A\n\n\\[\na\n\n+ b\n\\]\n\nB\n\nC \\[ d \\]\n\nE\n\nF"
    assert split(text) == [
        "A\n\n",
        "\\[\na\n\n+ b\n\\]\n\n",
        "B\n\n",
        "C \\[ d \\]\n\n",
        "E\n\n",
        "F",
    ]
