"""The text of the pleasant models: readable Markdown that takes the question up.

Nothing is understood here and the answer says so; a few key words choose the example.
"""

from __future__ import annotations

import re

_CODE: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("sql", "database", "query", "postgres", "sqlite"),
        "sql",
        "SELECT variety, count(*) AS plants\nFROM field\nGROUP BY variety\nORDER BY plants DESC;",
    ),
    (
        ("javascript", "typescript", "browser", "react", "node"),
        "javascript",
        (
            "const harvest = field\n  .filter((plant) => plant.ripe)\n"
            "  .map((plant) => plant.name);\nconsole.log(harvest.join(', '));"
        ),
    ),
    (
        ("shell", "bash", "terminal", "command", "linux", "docker"),
        "bash",
        'for row in field/*.txt; do\n  printf \'%s: \' "$row"\n  wc -l < "$row"\ndone',
    ),
)
_PYTHON = (
    "from collections import Counter\n\n\n"
    "def harvest(field: list[str]) -> Counter[str]:\n"
    '    """How many plants of each variety stand in the field."""\n'
    "    return Counter(plant.strip().lower() for plant in field)\n\n\n"
    'print(harvest(["Rosara", "Linda", "rosara"]))'
)
_STEPS = (
    ("Say what you want to know", "One sentence is enough to begin with."),
    ("Look at the parts", "A small example shows more than a long description."),
    ("Try it", "Change one thing at a time and watch what happens."),
)
_STOP_TEXT = (
    "about after again also because been before could does from give have help here into just "
    "know like make more much need over please same should show some tell than that their them "
    "then there these they this those want what when where which while with would write your "
    "using explain example"
)
_STOP_WORDS = frozenset(_STOP_TEXT.split())


def subject_of(question: str) -> str:
    """The question as a heading: its first line without Markdown, not longer than 60 characters."""
    for raw in question.splitlines():
        line = " ".join(re.sub(r"[#*_`>|<\[\]]+", " ", raw).split()).rstrip("?!.:, ")
        if line:
            break
    else:
        return "Your question"
    if len(line) > 60:
        line = line[:60].rsplit(" ", 1)[0] + " …"
    return line[0].upper() + line[1:]


def keywords_of(question: str, most: int = 3) -> list[str]:
    """The longest words of the question in their order, each once."""
    seen = dict.fromkeys(
        word.lower()
        for word in re.findall(r"[^\W\d_]{4,}", question)
        if word.lower() not in _STOP_WORDS
    )
    chosen = sorted(seen, key=len, reverse=True)[:most]
    return [word for word in seen if word in chosen]


def answer_to(question: str) -> str:
    """A Markdown answer with a heading, a list, a table and a code block."""
    lower = question.lower()
    language, code = "python", _PYTHON
    for names, other, text in _CODE:
        if any(re.search(rf"\b{name}\b", lower) for name in names):
            language, code = other, text
            break
    keywords = keywords_of(question) or ["question", "answer"]
    steps = "\n".join(f"{n}. **{title}.** {line}" for n, (title, line) in enumerate(_STEPS, 1))
    rows = "\n".join(
        f"| {word} | {len(word)} | {question.lower().count(word)} |" for word in keywords
    )
    named = ", ".join(f"*{word}*" for word in keywords)
    length = len(question.split())
    return (
        f"## {subject_of(question)}\n\n"
        f"You wrote {length} word{'' if length == 1 else 's'}, and I took up {named}. "
        "I am the scripted provider of the demo: I run on this machine, cost nothing and "
        "understand nothing, but I stream like the real thing.\n\n"
        f"{steps}\n\n"
        "What I noticed in your message:\n\n"
        "| word | letters | times used |\n| --- | ---: | ---: |\n"
        f"{rows}\n\n"
        f"And a few lines of code to look at:\n\n```{language}\n{code}\n```\n\n"
        "To talk to a real model, add an OpenAI key under **Credentials**.\n"
    )


def title_for(question: str) -> str | None:
    """A title, where the question asks for that of a conversation; None where it does not."""
    if not question.startswith("Write a title for the conversation below"):
        return None
    found = re.search(r"^User: (.*?)(?=^Assistant: |\Z)", question, re.MULTILINE | re.DOTALL)
    asked = found[1] if found else ""
    keywords = keywords_of(asked)
    return f"About {' and '.join(keywords)}" if keywords else subject_of(asked)
