"""ChatGPT's export, of which there is no official description.

A conversation is a `mapping` of nodes with `parent` and `children`, and ends in `current_node`. A
node may have no message; a message may be of the system, of a tool, hidden, or empty. What the
user saw as text becomes user and assistant messages; what is left out is counted by its kind.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from typing import Any

from alchat_core.ids import now_ms
from alchat_core.imports.trees import Node, build
from alchat_core.imports.values import Found, line_of, moment_of, text_of

SOURCE = "chatgpt"

# References to sources, in characters for private use that show as boxes elsewhere.
_MARKS = re.compile("\ue200[^\ue201]{0,2000}\ue201|[\ue200-\ue206]")
_LONGEST_RUN = re.compile("`+")
_PICTURE = "[image]"


def found_in(raw: dict[str, Any], left_out: Counter[str], *, deepest: int) -> Found:
    """Counts in `left_out` what is not taken along. Raises `NotTaken`."""
    mapping = raw["mapping"]
    counted: Counter[str] = Counter()
    nodes = [_node(key, node, counted) for key, node in mapping.items() if isinstance(node, dict)]
    created = _seconds(raw.get("create_time"))
    moments = [node.created_at for node in nodes if node.created_at]
    since = created or min(moments, default=now_ms())
    messages, active = build(
        nodes, text_of(raw.get("current_node")), since=since, deepest=deepest, merge=True
    )
    left_out.update(counted)
    external = line_of(raw.get("conversation_id") or raw.get("id"), 200)
    return Found(
        source=SOURCE,
        external_id=external or _fingerprint(raw),
        title=line_of(raw.get("title"), 200),
        messages=messages,
        active=active,
        created_at=since,
        last_message_at=max(message.created_at for message in messages),
        # Not its model: by that name the owner's own provider may know none.
        pinned=raw.get("is_starred") is True or bool(raw.get("pinned_time")),
        archived=raw.get("is_archived") is True,
    )


def _fingerprint(raw: dict[str, Any]) -> str:
    whole = json.dumps(raw.get("mapping"), sort_keys=True).encode()
    return "sha256-" + hashlib.sha256(whole).hexdigest()


def _seconds(value: object) -> int | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return moment_of(value * 1000)
    return None


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _node(key: str, node: dict[str, Any], left_out: Counter[str]) -> Node:
    message = _dict(node.get("message"))
    metadata = _dict(message.get("metadata"))
    content = _dict(message.get("content"))
    role = _dict(message.get("author")).get("role")
    kind = content.get("content_type")
    parent = text_of(node.get("parent"))
    node_id = text_of(key) or ""
    moment = _seconds(message.get("create_time"))

    def hidden(what: str | None = None, reasoning: str | None = None) -> Node:
        if what:
            left_out[what] += 1
        return Node(node_id, parent, created_at=moment, reasoning=reasoning)

    if kind == "thoughts":
        return hidden(reasoning=_thoughts(content))
    if kind == "reasoning_recap":
        return hidden()
    text = _text(content, left_out) if role in ("user", "assistant", "system") else ""
    if role == "tool":
        return hidden("tools")
    if role not in ("user", "assistant"):
        return hidden("instructions" if text else None)
    if kind in ("user_editable_context", "model_editable_context"):
        return hidden("instructions")
    if metadata.get("is_visually_hidden_from_conversation") is True:
        return hidden("hidden" if text else None)
    if role == "assistant" and message.get("recipient") not in (None, "all"):
        return hidden("tools")
    if not text:
        return hidden()
    model = line_of(metadata.get("model_slug"), 200) if role == "assistant" else None
    return Node(node_id, parent, role, text, model=model, created_at=moment)


def _text(content: dict[str, Any], left_out: Counter[str]) -> str:
    """What a message says, its parts with an empty line between; empty if that is nothing."""
    kind = content.get("content_type")
    if kind == "code":
        code = text_of(content.get("text"))
        return _fenced(code, line_of(content.get("language"), 30)) if code else ""
    parts = content.get("parts")
    if isinstance(parts, list):
        found = [_part(part, left_out) for part in parts]
    else:
        found = [text_of(content.get(name)) for name in ("text", "result", "content")]
    text = _MARKS.sub("", "\n\n".join(part for part in found if part)).strip()
    if not text and kind not in (None, "text", "multimodal_text") and not isinstance(parts, list):
        left_out["unknown"] += 1
    return text


def _part(part: object, left_out: Counter[str]) -> str | None:
    if isinstance(part, str):
        return text_of(part)
    if not isinstance(part, dict):
        return None
    kind = str(part.get("content_type"))
    if kind == "image_asset_pointer":
        left_out["images"] += 1
        return _PICTURE
    if kind == "audio_transcription":
        return text_of(part.get("text"))
    if "audio" in kind or "video" in kind:
        left_out["recordings"] += 1
        return None
    text = text_of(part.get("text"))
    if text is None:
        left_out["unknown"] += 1
    return text


def _fenced(code: str, language: str | None) -> str:
    longest = max((len(run) for run in _LONGEST_RUN.findall(code)), default=0)
    fence = "`" * max(3, longest + 1)
    named = language if language and language.isalnum() and language != "unknown" else ""
    return f"{fence}{named}\n{code}\n{fence}"


def _thoughts(content: dict[str, Any]) -> str | None:
    written = content.get("thoughts")
    if not isinstance(written, list):
        return None
    found = []
    for thought in written:
        about = _dict(thought)
        found += [text_of(about.get("summary")), text_of(about.get("content"))]
    return "\n\n".join(part for part in found if part) or None
