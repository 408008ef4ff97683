"""The rows of attached files, read and written within units of others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.engine import Connection

from alchat_core.attachments.models import Attachment
from alchat_core.db.tables import attachments, message_attachments
from alchat_core.errors import InvalidInput
from sqlkit import Prepared

COLUMNS = (
    attachments.c.id,
    attachments.c.sha256,
    attachments.c.name,
    attachments.c.media_type,
    attachments.c.kind,
    attachments.c.bytes,
    attachments.c.pages,
    attachments.c.characters,
    attachments.c.created_at,
)
_OWN = select(*COLUMNS).where(
    attachments.c.owner == bindparam("who"),
    attachments.c.id.in_(bindparam("wanted", expanding=True)),
    attachments.c.sha256.is_not(None),
)
_SENT = (
    update(attachments)
    .where(attachments.c.id.in_(bindparam("wanted", expanding=True)))
    .values(sent=True)
)
_ATTACH = insert(message_attachments)
_ALL = (
    select(message_attachments.c.message_id, *COLUMNS)
    .join(attachments, attachments.c.id == message_attachments.c.attachment_id)
    .order_by(message_attachments.c.message_id, message_attachments.c.position)
)
_OF_MESSAGES = _ALL.where(message_attachments.c.message_id.in_(bindparam("wanted", expanding=True)))
_OF_CONVERSATION = Prepared(
    _ALL.where(message_attachments.c.conversation_id == bindparam("conversation"))
)

Attached = dict[str, tuple[Attachment, ...]]


def attach(
    connection: Connection, owner: str, conversation_id: str, message_id: str, ids: Sequence[str]
) -> tuple[Attachment, ...]:
    """Gives a new message its files, in this order. Raises `InvalidInput`."""
    found = own_files(connection, owner, ids, "attachments")
    if not found:
        return ()
    connection.execute(
        _ATTACH,
        [
            {
                "message_id": message_id,
                "position": position,
                "attachment_id": one,
                "conversation_id": conversation_id,
            }
            for position, one in enumerate(ids)
        ],
    )
    return found


def own_files(
    connection: Connection, owner: str, ids: Sequence[str], field: str
) -> tuple[Attachment, ...]:
    """The files of these ids, in this order, which are kept from now on.

    Raises `InvalidInput` for what is not there or not the owner's, and for what comes twice.
    """
    if not ids:
        return ()
    if len(set(ids)) < len(ids):
        raise InvalidInput(f"{field}: name each file once.")
    rows = connection.execute(_OWN, {"who": owner, "wanted": list(ids)})
    found = {row[0]: Attachment(*row) for row in rows}
    if len(found) < len(ids):
        raise InvalidInput(
            f"{field}: there is no such file of yours. Upload it, then name the id that you get."
        )
    connection.execute(_SENT, {"wanted": list(ids)})
    return tuple(found[one] for one in ids)


def of_messages(connection: Connection, message_ids: Sequence[str]) -> Attached:
    """The files of those messages that have any."""
    return gather(connection.execute(_OF_MESSAGES, {"wanted": list(message_ids)}).all())


def of_message(connection: Connection, message_id: str) -> tuple[Attachment, ...]:
    return of_messages(connection, [message_id]).get(message_id, ())


def of_conversation(connection: Connection, conversation_id: str) -> Attached:
    """The files of all messages of a conversation, whatever their branch."""
    return gather(_OF_CONVERSATION.rows(connection, {"conversation": conversation_id}))


def gather(rows: Sequence[Sequence[object]]) -> Attached:
    """The files by the id in the first column."""
    found: dict[str, list[Attachment]] = defaultdict(list)
    for whose, *columns in rows:
        found[str(whose)].append(Attachment(*columns))  # type: ignore[arg-type]
    return {whose: tuple(files) for whose, files in found.items()}
