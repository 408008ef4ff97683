"""Markdown that holds together, names of files that every system takes."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from alchat_core.exports import names
from alchat_core.exports.document import Exported
from alchat_core.exports.markdown import as_markdown, closes

PARSER = MarkdownIt("commonmark")


SOURCES = [{"n": 1, "name": "a_b.pdf", "page": 20}, {"n": 2, "name": "c.txt", "page": None}]


def exported(title: str | None, *contents: str) -> Exported:
    rows = [
        SimpleNamespace(
            id=str(index), parent_id=str(index - 1), role="user", content=content, model=None,
            created_at=0, state=None, sources=SOURCES,
        )
        for index, content in enumerate(contents)
    ]  # fmt: skip
    about = SimpleNamespace(
        title=title, active_leaf_id=str(len(rows) - 1), created_at=0, last_message_at=0,
        folder=None, system_prompt=None,
    )  # fmt: skip
    return Exported(about, (), tuple(rows), {"0": [SimpleNamespace(name="a*b_*.pdf")]})


def headings(text: str) -> list[str]:
    """What stands in headings of the document's own level, not within quotes or lists."""
    tokens = PARSER.parse(text)
    return [
        "".join(part.content for part in tokens[place + 1].children or ())
        for place, token in enumerate(tokens)
        if token.type == "heading_open" and token.level == 0
    ]


PIECES = st.sampled_from(
    ["```", "~~~", "````", "```py", " ```", "   ```", "    ```", "- ```", "1. a", "   b", "> ```",
     "- x", "  ```", "text", "", "    code", "<!-- no end", "<script>", "</script>", "<div>",
     "-->", "\t```", "- - ```", "> - ```", "[a]: <b", "`` ` ``", "***", "``` `", "   > ~~~"]
)  # fmt: skip


@given(st.lists(st.lists(PIECES, max_size=9).map("\n".join), min_size=1, max_size=3))
def test_no_message_swallows_the_one_after_it(contents: list[str]) -> None:
    text = as_markdown(exported("t", *contents))
    own = Counter(heading for heading in headings(text) if heading.startswith("User, 1970"))
    assert own.total() == len(contents), text


def test_usual_markdown_stands_as_it_is() -> None:
    usual = "# A\n\n```py\nx = '~~~'\n```\n\n1. b\n   ```\n   c\n   ```\n\n~~~~\n```\n~~~~\n\n- d"
    assert closes(usual)
    assert usual in as_markdown(exported("t", usual))
    assert r"Attached: a\*b\_\*.pdf" in as_markdown(exported("t", "x"))
    cited = as_markdown(exported("t", "As the log says [1]."))
    assert cited.endswith("says [1].\n\nSources: \\[1\\] a\\_b.pdf (page 20)\n")
    assert "> ```\n> open" in as_markdown(exported("t", "```\nopen", "next"))


@given(st.text(max_size=40) | st.text("#*`_[]<>&|~\\$! \n", max_size=20))
def test_a_title_is_text_and_a_file_name_is_safe(title: str) -> None:
    found = headings(as_markdown(exported(title or None, "x")))
    shown = " ".join(title.split()) or ("New chat" if not title else "")
    # CommonMark knows neither lone surrogates, which cannot be encoded, nor null characters.
    assert found[0].replace("\ufffd", "\x00") == shown.replace("\ufffd", "\x00")
    name = names.file_name(title, 0, "md")
    assert name.startswith("1970-01-01")
    assert len(name.encode()) < 120
    assert not set('/\\:*?"<>|\r\n\x00') & set(name)
    header = names.attachment(name)
    assert header.isascii()
    assert header.count('"') == 2
