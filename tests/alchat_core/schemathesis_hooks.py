"""What schemathesis loads: ids of made-up objects are left out of most bodies.

With them every message would be refused for an assistant or a file that is not there, and none be
answered. What breaks the description stays, so that its refusal is tried all the same.
"""

from __future__ import annotations

from typing import Any

import schemathesis

MAX_ID = 40


@schemathesis.hook
def map_body(_context: Any, body: Any) -> Any:
    if not isinstance(body, dict):
        return body
    return {name: value for name, value in body.items() if not _made_up(name, value)}


def _made_up(name: str, value: Any) -> bool:
    if name in ("assistantId", "parentId"):
        return _is_id(value)
    if name in ("attachments", "tools"):
        return isinstance(value, list) and all(map(_is_id, value))
    return False


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_ID and "\x00" not in value
