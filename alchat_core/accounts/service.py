"""Deletes all that there is of a user: conversations with everything in them, files, prompts and
assistants, tool servers, snapshots, and what others share with that user name.

What is being written stops first. A crash in between leaves the rest to the next call.
"""

from __future__ import annotations

from sqlalchemy import delete, select, update
from sqlalchemy.engine import Connection

from alchat_core.attachments.service import AttachmentService
from alchat_core.conversations.housekeeping import NO_UNDO, Housekeeping, delete_for_good
from alchat_core.db.engine import Database
from alchat_core.db.tables import (
    assistants,
    conversations,
    idempotency_keys,
    import_origins,
    share_users,
    shares,
    tool_approvals,
    tool_servers,
)
from alchat_core.runs.service import RunService
from alchat_core.shares.service import username_of

# Beside conversations and files, which go piece by piece.
OWNED = (shares, assistants, tool_approvals, tool_servers, idempotency_keys, import_origins)


class AccountService:
    """Built once per process."""

    def __init__(
        self,
        database: Database,
        runs: RunService,
        attachments: AttachmentService,
        housekeeping: Housekeeping,
    ) -> None:
        self._database = database
        self._runs = runs
        self._attachments = attachments
        self._housekeeping = housekeeping

    async def erase(self, user_id: str, username: str) -> None:
        """Returns when nothing of the user is left; that there is nothing is no error."""

        def hide(connection: Connection) -> tuple[list[str], int]:
            mine = conversations.c.owner == user_id
            # Nothing new begins in what is deleted, and no undo brings it back.
            connection.execute(update(conversations).where(mine).values(deleted_at=NO_UNDO))
            gone = connection.execute(
                delete(share_users).where(share_users.c.username == username_of(username))
            ).rowcount
            for table in OWNED:
                gone += connection.execute(delete(table).where(table.c.owner == user_id)).rowcount
            return list(connection.scalars(select(conversations.c.id).where(mine))), gone

        found, gone = await self._database.write(hide)
        await self._runs.drop_user(user_id, found)
        for conversation_id in found:
            await self._attachments.forget(conversation_id)
            await delete_for_good(self._database, conversation_id)
        gone += await self._attachments.forget_user(user_id)
        if found:
            await self._housekeeping.clean_index()
        if found or gone:
            await self._database.scrub()
