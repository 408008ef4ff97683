"""What the owner of a conversation thinks of an answer in it: a thumb, and words if need be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from alchat_core.conversations.models import Message
from alchat_core.db.engine import Database
from alchat_core.db.tables import conversations, feedback, messages
from alchat_core.errors import InvalidInput, NotFound
from alchat_core.ids import iso, now_ms

_ROLE = (
    select(messages.c.role)
    .join(conversations, conversations.c.id == messages.c.conversation_id)
    .where(
        messages.c.id == bindparam("message"),
        conversations.c.owner == bindparam("who"),
        conversations.c.deleted_at.is_(None),
    )
)
_OF = select(
    feedback.c.message_id, feedback.c.rating, feedback.c.comment, feedback.c.updated_at
).where(feedback.c.message_id.in_(bindparam("wanted", expanding=True)))


@dataclass(frozen=True, slots=True)
class Feedback:
    """`rating` is `up` or `down`."""

    rating: str
    comment: str | None
    updated_at: int

    def as_json(self) -> dict[str, Any]:
        return {
            "rating": self.rating,
            "comment": self.comment,
            "updatedAt": iso(self.updated_at),
        }


def with_feedback(connection: Connection, page: Sequence[Message]) -> list[Message]:
    """The messages, each with its feedback, by one query for all."""
    wanted = [message.id for message in page if message.role == "assistant"]
    if not wanted:
        return list(page)
    found = {
        message_id: Feedback(*more).as_json()
        for message_id, *more in connection.execute(_OF, {"wanted": wanted})
    }
    return [
        replace(message, feedback=found[message.id]) if message.id in found else message
        for message in page
    ]


class FeedbackService:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, owner: str, message_id: str, rating: str, comment: str | None) -> Feedback:
        """In place of any that was there. Raises `NotFound`; `InvalidInput` for a question."""
        given = Feedback(rating, comment, now_ms())

        def unit(connection: Connection) -> None:
            _check(connection, owner, message_id)
            values = {"rating": rating, "comment": comment, "updated_at": given.updated_at}
            changed = connection.execute(
                update(feedback).where(feedback.c.message_id == message_id).values(**values)
            )
            if not changed.rowcount:
                connection.execute(
                    insert(feedback).values(
                        message_id=message_id, created_at=given.updated_at, **values
                    )
                )

        try:
            await self._database.write(unit)
        except IntegrityError:
            # Somebody else was faster: the second look sees it, or that the message is gone.
            await self._database.write(unit)
        return given

    async def remove(self, owner: str, message_id: str) -> None:
        """Nothing happens where there is none. Raises what `put` raises."""

        def unit(connection: Connection) -> None:
            _check(connection, owner, message_id)
            connection.execute(delete(feedback).where(feedback.c.message_id == message_id))

        await self._database.write(unit)


def _check(connection: Connection, owner: str, message_id: str) -> None:
    role = connection.scalar(_ROLE, {"message": message_id, "who": owner})
    if role is None:
        raise NotFound
    if role != "assistant":
        raise InvalidInput("Feedback is for answers. Name a message of the assistant.")
