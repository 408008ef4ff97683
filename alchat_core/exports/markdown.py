"""A conversation as CommonMark for people: the active branch, one heading for each message.

Messages are Markdown already and stand there as they are. One that leaves a code fence or a block
of HTML open would swallow what comes after it; it is put into a block quote, whose end closes
everything that was opened in it.
"""

from __future__ import annotations

import re
from typing import Any

from alchat_core.conversations.models import UNTITLED
from alchat_core.exports.document import Exported
from alchat_core.ids import iso

_SIGNS = re.compile(r"([\\`*_\[\]<>#&~|$])")
_LINES = re.compile(r"\r\n|\r|\n")
_FENCE = re.compile(r"( *)(`{3,}(?=[^`]*$)|~{3,})(.*)$")
# A fence that begins on the line of its list item, or of a quote in one.
_FENCE_IN_ITEM = re.compile(r"\s*(?:[-*+]|\d{1,9}[.)])\s.*(?:`{3}|~{3})")
# Kinds 1 to 5 of HTML blocks of CommonMark: an empty line does not end them.
_HTML = re.compile(r"[\s>*+\d.)-]*<(?:script|pre|style|textarea|!|\?)", re.IGNORECASE)
# Kinds 6 and 7, which an empty line ends.
_HTML_TO_GAP = re.compile(r"[\s>*+\d.)-]*</?[a-z]", re.IGNORECASE)


def as_markdown(exported: Exported) -> str:
    """The active branch; what a model thought and the other branches are in the JSON alone."""
    row = exported.conversation
    parts = [f"# {plain(row.title or UNTITLED)}", _about(exported)]
    if row.system_prompt:
        parts += ["## System prompt", quoted(row.system_prompt)]
    for message in exported.branch():
        who = "User" if message.role == "user" else "Assistant"
        model = f" ({plain(message.model)})" if message.model and message.role != "user" else ""
        parts.append(f"## {who}{model}, {_moment(message.created_at)}")
        names = [plain(file.name) for file in exported.files.get(message.id, ())]
        if names:
            parts.append(f"Attached: {', '.join(names)}")
        if message.content.strip():
            parts.append(contained(message.content))
        cited = [_place(one) for one in message.sources or () if f"[{one['n']}]" in message.content]
        if cited:
            parts.append(f"Sources: {', '.join(cited)}")
        if message.state in ("failed", "cancelled", "interrupted", "queued", "running"):
            parts.append(f"*({_STATES[message.state]})*")
    return "\n\n".join(parts) + "\n"


_STATES = {
    "failed": "This answer failed.",
    "cancelled": "This answer was stopped.",
    "interrupted": "This answer was interrupted.",
    "queued": "This answer was still being written.",
    "running": "This answer was still being written.",
}


def _about(exported: Exported) -> str:
    row = exported.conversation
    facts = [
        f"- Begun: {_moment(row.created_at)}",
        f"- Last message: {_moment(row.last_message_at)}",
    ]
    if row.folder:
        facts.append(f"- Folder: {plain(row.folder)}")
    if exported.tags:
        facts.append(f"- Tags: {', '.join(plain(tag) for tag in exported.tags)}")
    return "\n".join(facts)


def _place(source: dict[str, Any]) -> str:
    page = f" (page {source['page']})" if source["page"] else ""
    return rf"\[{source['n']}\] {plain(source['name'])}{page}"


def _moment(moment: int) -> str:
    return str(iso(moment))[:16].replace("T", " ") + " UTC"


def plain(text: str) -> str:
    """Text in one line that no Markdown parser takes for markup."""
    return _SIGNS.sub(r"\\\1", " ".join(text.split()))


def quoted(text: str) -> str:
    """A block quote."""
    return "\n".join(f"> {line}".rstrip() for line in _LINES.split(text.strip("\r\n")))


def contained(text: str) -> str:
    """The text as it is, or as a quote where something in it may be left open at its end."""
    return text.strip("\r\n") if closes(text) else quoted(text)


def closes(text: str) -> bool:
    """Whether all that a Markdown text opens surely ends with it; in doubt False.

    An indented fence may belong to a list, which a line with less indentation ends together with
    the fence: then all lines up to its end have to be indented as it is.
    """
    mark, indent, html = "", 0, False
    for raw in _LINES.split(text):
        line = raw.expandtabs(4)
        found = _FENCE.match(line)
        if mark:
            depth = len(line) - len(line.lstrip(" "))
            if found and found[2].startswith(mark) and not found[3].strip(" "):
                if indent and depth != indent:
                    return False
                if depth <= 3 or indent:
                    mark = ""
            elif indent and line.strip() and depth < indent:
                return False
        elif found:
            if html:
                return False
            indent, mark = len(found[1]), found[2]
        elif _FENCE_IN_ITEM.match(line) or _HTML.match(line):
            return False
        else:
            html = bool(line.strip() and (html or _HTML_TO_GAP.match(line)))
    return not mark
