"""The folders and tags that an owner uses, with how many conversations each has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, bindparam, func, select
from sqlalchemy.engine import Connection
from sqlalchemy.sql import Select

from alchat_core.db.engine import Database
from alchat_core.db.tables import conversation_tags, conversations

# What the list of conversations shows.
_LISTED = and_(
    conversations.c.owner == bindparam("who"),
    conversations.c.archived.is_(False),
    conversations.c.temporary.is_(False),
    conversations.c.deleted_at.is_(None),
)
_FOLDERS = (
    select(conversations.c.folder, func.count())
    .where(_LISTED, conversations.c.folder.is_not(None))
    .group_by(conversations.c.folder)
)
_TAGS = (
    select(conversation_tags.c.tag, func.count())
    .join(conversations, conversations.c.id == conversation_tags.c.conversation_id)
    .where(_LISTED)
    .group_by(conversation_tags.c.tag)
)


@dataclass(frozen=True, slots=True)
class Shelf:
    """A folder or a tag."""

    name: str
    conversations: int

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "conversations": self.conversations}


class ShelfService:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def folders(self, owner: str) -> list[Shelf]:
        """By name; those of archived conversations alone are not among them."""
        return await self._shelves(_FOLDERS, owner)

    async def tags(self, owner: str) -> list[Shelf]:
        """The same for tags."""
        return await self._shelves(_TAGS, owner)

    async def _shelves(self, query: Select[Any], owner: str) -> list[Shelf]:
        def unit(connection: Connection) -> list[Shelf]:
            return [Shelf(*row) for row in connection.execute(query, {"who": owner}).all()]

        found = await self._database.read(unit, slow=True)
        return sorted(found, key=lambda shelf: (shelf.name.casefold(), shelf.name))
