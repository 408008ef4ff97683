"""The tree of a file as the tree of a conversation here: parents before children, older first."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alchat_core.imports.values import NotTaken, Planned


@dataclass(frozen=True, slots=True)
class Node:
    """Something with a place in the tree of a file. Without a role it is not shown: what follows
    it follows what it follows, and its `reasoning` belongs to the next answer.
    """

    id: str
    parent: str | None
    role: str | None = None
    content: str = ""
    reasoning: str | None = None
    model: str | None = None
    created_at: int | None = None
    rating: str | None = None
    comment: str | None = None
    sources: list[dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class _Above:
    """What a node has above itself; `alone`: nothing else follows the message shown there."""

    place: int | None = None
    moment: int = 0
    depth: int = 0
    alone: bool = False
    thoughts: str | None = None


def build(
    nodes: Sequence[Node], active: str | None, *, since: int, deepest: int, merge: bool
) -> tuple[list[Planned], int | None]:
    """The messages, and the place of the one at which the active branch ends, if it is known.

    A parent that is not there makes a first message. What has no time takes that of its parent,
    the first one `since`. `merge` makes one message of answers that follow each other with nothing
    else between. Raises `NotTaken`.
    """
    known = {node.id: node for node in nodes}
    if len(known) < len(nodes):
        raise NotTaken("Two of its messages have the same id.")
    children: dict[str | None, list[Node]] = defaultdict(list)
    for node in nodes:
        children[node.parent if node.parent in known else None].append(node)
    planned: list[Planned] = []
    places: dict[str, int | None] = {}
    waiting: list[tuple[int, int, Node, _Above]] = []
    count = 0

    def wait_for(below: Sequence[Node], above: _Above) -> None:
        nonlocal count
        for child in below:
            count += 1
            moment = max(child.created_at or 0, above.moment)
            heapq.heappush(waiting, (moment, count, child, above))

    wait_for(children[None], _Above(moment=since))
    while waiting:
        moment, _, node, above = heapq.heappop(waiting)
        below = children[node.id]
        alone = len(below) == 1
        if node.role is None:
            thoughts = _joined(above.thoughts, node.reasoning)
            places[node.id] = above.place
            follow = _Above(above.place, moment, above.depth, alone and above.alone, thoughts)
        else:
            reasoning = node.reasoning
            if node.role == "assistant":
                reasoning = _joined(above.thoughts, reasoning)
            before = planned[above.place] if above.place is not None else None
            if merge and above.alone and before and before.role == node.role == "assistant":
                before.content = _joined(before.content, node.content) or ""
                before.reasoning = _joined(before.reasoning, reasoning)
                before.model = node.model or before.model
                places[node.id] = above.place
                follow = _Above(above.place, moment, above.depth, alone)
            else:
                if above.depth == deepest:
                    raise NotTaken(f"One of its branches has more than {deepest} messages.")
                made = Planned(
                    above.place,
                    node.role,
                    node.content,
                    reasoning,
                    node.model,
                    node.created_at or above.moment,
                    node.rating,
                    node.comment,
                    node.sources,
                )
                planned.append(made)
                places[node.id] = len(planned) - 1
                follow = _Above(len(planned) - 1, moment, above.depth + 1, alone)
        wait_for(below, follow)
    if len(places) < len(nodes):
        raise NotTaken("Its messages follow each other in a circle.")
    if not planned:
        raise NotTaken("There is no message of a user or an assistant in it.")
    return planned, places.get(active) if active is not None else None


def _joined(one: str | None, other: str | None) -> str | None:
    return "\n\n".join(part for part in (one, other) if part) or None
