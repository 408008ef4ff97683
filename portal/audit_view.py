"""Audit entries as rows of text; ids become user names where there is such a user."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from papita_core.audit.service import Entry
from papita_core.users.service import UserService


def entry_rows(entries: Iterable[Entry], users: UserService) -> Iterator[tuple[str, ...]]:
    """Number, time, action, actor, owner, project, outcome of each entry."""
    names: dict[str | None, str] = {None: ""}

    def name(user_id: str | None) -> str:
        if user_id not in names:
            user = users.by_id(str(user_id))
            names[user_id] = user.username if user is not None else str(user_id)
        return names[user_id]

    for entry in entries:
        event = entry.event
        yield (
            str(entry.seq),
            f"{entry.at:%Y-%m-%d %H:%M:%S}",
            event.action,
            name(event.actor_id),
            name(event.owner_id),
            event.project_id or "",
            event.outcome,
        )
