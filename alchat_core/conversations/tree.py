"""The tree of a conversation: branches, siblings, and which branch is the active one.

Messages are never changed or taken out: an edit is a sibling of the message, one more answer a
sibling of the answer. Ids sort by time and nothing is older than its parent, so of a part of the
tree the newest message is a leaf.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Select, bindparam, func, literal, select
from sqlalchemy.engine import Connection

from alchat_core.conversations.models import Message, Siblings
from alchat_core.db.tables import conversations, messages, runs
from sqlkit import Prepared

MAX_SIBLING_IDS = 100
MAX_COMPARED = 8

_newest = (
    select(messages.c.id)
    .where(messages.c.conversation_id == conversations.c.id)
    .order_by(messages.c.id.desc())
    .limit(1)
    .correlate(conversations)
    .scalar_subquery()
)
# For any query over conversations: the end of the active branch.
ACTIVE_LEAF = func.coalesce(conversations.c.active_leaf_id, _newest)
_others = runs.alias("others")
# For any query over messages; one whose answer was continued has had several.
NEWEST_RUN = (
    select(func.max(_others.c.id))
    .where(_others.c.message_id == messages.c.id)
    .correlate(messages)
    .scalar_subquery()
)

_LEAF = select(ACTIVE_LEAF).where(conversations.c.id == bindparam("conversation"))
# A `Message`, of which the newest run is joined to it.
_MESSAGE = (
    messages.c.id,
    messages.c.conversation_id,
    messages.c.parent_id,
    messages.c.role,
    messages.c.content,
    func.coalesce(messages.c.model, runs.c.model).label("used_model"),
    messages.c.created_at,
    runs.c.id.label("run_id"),
    runs.c.state.label("run_state"),
    runs.c.error,
    messages.c.usage,
    messages.c.reasoning,
    messages.c.sources,
    messages.c.tool_calls,
    messages.c.reasoning_ms,
    runs.c.credential_id,
)


def _path() -> Select[Any]:
    """From one message up to the root, nearest first."""
    step = (
        select(messages.c.id, messages.c.parent_id, literal(1).label("height"))
        .where(
            messages.c.id == bindparam("leaf"),
            messages.c.conversation_id == bindparam("conversation"),
        )
        .cte("path", recursive=True)
    )
    step = step.union_all(
        select(messages.c.id, messages.c.parent_id, step.c.height + 1).where(
            messages.c.id == step.c.parent_id, step.c.height < bindparam("count")
        )
    )
    return (
        select(*_MESSAGE)
        .select_from(step)
        .join(messages, messages.c.id == step.c.id)
        .outerjoin(runs, runs.c.id == NEWEST_RUN)
        .order_by(step.c.height)
    )


def _newest_below() -> Select[Any]:
    below = (
        select(messages.c.id)
        .where(
            messages.c.id == bindparam("message"),
            messages.c.conversation_id == bindparam("conversation"),
        )
        .cte("below", recursive=True)
    )
    below = below.union_all(select(messages.c.id).where(messages.c.parent_id == below.c.id))
    return select(func.max(below.c.id))


_PATH = Prepared(_path())
_NEWEST_BELOW = _newest_below()
_SOME = (
    select(*_MESSAGE)
    .select_from(messages)
    .outerjoin(runs, runs.c.id == NEWEST_RUN)
    .where(messages.c.id.in_(bindparam("wanted", expanding=True)))
    .order_by(messages.c.id)
)
_SIBLINGS = (
    select(messages.c.parent_id, messages.c.id, messages.c.beside)
    .where(messages.c.parent_id.in_(bindparam("parents", expanding=True)))
    .order_by(messages.c.id)
)
_FIRST = (
    select(messages.c.parent_id, messages.c.id, messages.c.beside)
    .where(messages.c.conversation_id == bindparam("conversation"), messages.c.parent_id.is_(None))
    .order_by(messages.c.id)
)
_SIBLINGS_AND_FIRST = _SIBLINGS.order_by(None).union_all(_FIRST.order_by(None))
_SIBLINGS_AND_FIRST = _SIBLINGS_AND_FIRST.order_by(_SIBLINGS_AND_FIRST.selected_columns.id)


def path(connection: Connection, conversation_id: str, leaf: str, count: int) -> list[Message]:
    """At most `count` messages that end in `leaf`, oldest first."""
    wanted = {"conversation": conversation_id, "leaf": leaf, "count": count}
    found = [Message(*row) for row in _PATH.rows(connection, wanted)]
    found.reverse()
    return found


def active_leaf(connection: Connection, conversation_id: str) -> str | None:
    """The end of the active branch; None while there is no message."""
    found: str | None = connection.scalar(_LEAF, {"conversation": conversation_id})
    return found


def newest_leaf_below(connection: Connection, conversation_id: str, message_id: str) -> str | None:
    """The leaf at which the branch through a message ends; None if there is no such message."""
    found: str | None = connection.scalar(
        _NEWEST_BELOW, {"conversation": conversation_id, "message": message_id}
    )
    return found


def with_siblings(connection: Connection, page: Sequence[Message]) -> list[Message]:
    """The messages of one page, each with its siblings and what it is compared with, by one query
    for all: they are of one branch, or siblings themselves.
    """
    if not page:
        return []
    parents = [message.parent_id for message in page if message.parent_id]
    query = _SIBLINGS if page[0].parent_id else _SIBLINGS_AND_FIRST
    given: dict[str, Any] = {"parents": parents}
    if query is _SIBLINGS_AND_FIRST:
        given["conversation"] = page[0].conversation_id
    children: dict[str | None, list[str]] = defaultdict(list)
    firsts: dict[str, str] = {}
    for parent_id, message_id, beside in connection.execute(query, given):
        children[parent_id].append(message_id)
        if beside is not None:
            firsts[message_id] = beside
    return [
        replace(
            message,
            siblings=_siblings(message.id, children[message.parent_id]),
            compared_with=_compared(message.id, children[message.parent_id], firsts),
        )
        for message in page
    ]


def comparison(connection: Connection, message_id: str, parent_id: str | None) -> list[Message]:
    """The answers of its comparison, with their siblings; none if it is in none."""
    if parent_id is None:
        return []
    rows = connection.execute(_SIBLINGS, {"parents": [parent_id]}).all()
    firsts = {one: beside for _, one, beside in rows if beside is not None}
    wanted = _compared(message_id, [one for _, one, _ in rows], firsts)
    if not wanted:
        return []
    found = [Message(*row) for row in connection.execute(_SOME, {"wanted": wanted})]
    return with_siblings(connection, found)


def _compared(message_id: str, ids: list[str], firsts: dict[str, str]) -> tuple[str, ...]:
    """Itself and the newest of the others, oldest first; `firsts` has the first answer for each of
    the siblings `ids` that was asked for beside one.
    """
    if not firsts:
        return ()
    first = firsts.get(message_id, message_id)
    found = [one for one in ids if first in (one, firsts.get(one))]
    if len(found) < 2:
        return ()
    newest = found[-MAX_COMPARED:]
    return tuple(newest if message_id in newest else [message_id, *newest[1:]])


def _siblings(message_id: str, ids: list[str]) -> Siblings:
    index = ids.index(message_id)
    start = max(0, min(index - MAX_SIBLING_IDS // 2, len(ids) - MAX_SIBLING_IDS))
    return Siblings(len(ids), index, tuple(ids[start : start + MAX_SIBLING_IDS]))
