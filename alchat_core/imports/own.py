"""Our own JSON, as `docs/export-format.md` describes it."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from alchat_core.ids import now_ms
from alchat_core.imports.trees import Node, build
from alchat_core.imports.values import Found, NotTaken, line_of, moment_of, text_of

SOURCE = "al-chat"
FAMILY = "al-chat-conversation/"
FORMAT = FAMILY + "1"
MAX_TAGS = 20
MAX_SOURCES = 100
MAX_EXCERPT = 300
SAFE = 2**53 - 1


def found_in(raw: dict[str, Any], left_out: Counter[str], *, deepest: int) -> Found:
    """Counts in `left_out` what is not taken along. Raises `NotTaken`."""
    if raw.get("format") != FORMAT:
        raise NotTaken(
            "It is of another version of the format than this AL-Chat reads."
            " Import it into a newer AL-Chat."
        )
    written = raw.get("messages")
    external = line_of(raw.get("id"), 200)
    if not isinstance(written, list) or external is None:
        raise NotTaken("It has no id or no list of messages, so it is not complete.")
    created = _moment(raw.get("createdAt"))
    nodes = [_node(one) for one in written]
    moments = [node.created_at for node in nodes if node.created_at]
    since = created or min(moments, default=now_ms())
    messages, active = build(
        nodes, text_of(raw.get("activeMessageId")), since=since, deepest=deepest, merge=False
    )
    for one in written:
        files = one.get("attachments")
        left_out["attachments"] += len(files) if isinstance(files, list) else 0
        calls = one.get("toolCalls")
        left_out["tools"] += len(calls) if isinstance(calls, list) else 0
    newest = max(message.created_at for message in messages)
    tags = raw.get("tags")
    names = [line_of(tag, 50) for tag in tags] if isinstance(tags, list) else []
    return Found(
        source=SOURCE,
        external_id=external,
        title=line_of(raw.get("title"), 200),
        messages=messages,
        active=active,
        created_at=since,
        last_message_at=_moment(raw.get("lastMessageAt")) or newest,
        model=line_of(raw.get("model"), 200),
        system_prompt=text_of(raw.get("systemPrompt")),
        parameters=_parameters(raw.get("parameters")),
        folder=line_of(raw.get("folder"), 100),
        tags=sorted({name for name in names if name})[:MAX_TAGS],
        pinned=raw.get("pinned") is True,
        archived=raw.get("archived") is True,
    )


def _parameters(value: object) -> dict[str, Any] | None:
    """Whatever could be parameters; the service looks at them more closely."""
    if not isinstance(value, dict):
        return None
    return {str(text_of(name)): _plain(one) for name, one in value.items()}


def _plain(value: object) -> object:
    """What fits into a line to the service; anything else becomes what no parameter can be."""
    if isinstance(value, str):
        return text_of(value)
    if isinstance(value, list):
        return [text_of(one) for one in value]
    if value is None or isinstance(value, float) or (isinstance(value, int) and abs(value) <= SAFE):
        return value
    return {}


def _node(one: Any) -> Node:
    if not isinstance(one, dict):
        raise NotTaken("Something in its list is no message.")
    message_id, role = text_of(one.get("id")), one.get("role")
    if message_id is None or role not in ("user", "assistant"):
        raise NotTaken("One of its messages has no id, or is of neither user nor assistant.")
    if not isinstance(one.get("content"), str):
        raise NotTaken("One of its messages has no content.")
    feedback = one.get("feedback")
    rating, comment = None, None
    if isinstance(feedback, dict) and feedback.get("rating") in ("up", "down"):
        rating, comment = feedback["rating"], text_of(feedback.get("comment"), 2000)
    return Node(
        id=message_id,
        parent=text_of(one.get("parentId")),
        role=role,
        content=text_of(one["content"]) or "",
        reasoning=text_of(one.get("reasoning")),
        model=line_of(one.get("model"), 200),
        created_at=_moment(one.get("createdAt")),
        rating=rating if role == "assistant" else None,
        comment=comment if role == "assistant" else None,
        sources=_sources(one.get("sources")) if role == "assistant" else None,
    )


def _sources(value: object) -> list[dict[str, Any]] | None:
    """Places in files that are not here."""
    found = []
    for one in value[:MAX_SOURCES] if isinstance(value, list) else ():
        about = one if isinstance(one, dict) else {}
        number, name = _count(about.get("n")), line_of(about.get("name"), 200)
        if number and name:
            found.append(
                {
                    "n": number,
                    "attachmentId": None,
                    "name": name,
                    "page": _count(about.get("page")),
                    "excerpt": text_of(about.get("excerpt"), MAX_EXCERPT) or "",
                }
            )
    return found or None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and 0 < value <= SAFE and value is not True else None


def _moment(value: object) -> int | None:
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
        zoned = found if found.tzinfo else found.replace(tzinfo=UTC)
        return moment_of(zoned.timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
