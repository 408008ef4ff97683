"""The files of assistants: the background of conversations that began with one.

An assistant has its files from its owner. Who uses it gets to their text through a model alone, and
only as long as the assistant is there and shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import bindparam, delete, insert, literal_column, or_, select
from sqlalchemy.engine import Connection

from alchat_core.attachments.models import Attachment
from alchat_core.attachments.rows import COLUMNS, Attached, gather, own_files
from alchat_core.db.tables import assistant_files, assistants, attachments
from alchat_core.errors import InvalidInput

_OF_ASSISTANTS = (
    select(assistant_files.c.assistant_id, *COLUMNS)
    .join(attachments, attachments.c.id == assistant_files.c.attachment_id)
    .where(assistant_files.c.assistant_id.in_(bindparam("wanted", expanding=True)))
    .order_by(assistant_files.c.assistant_id, assistant_files.c.position)
)
_READABLE = (
    select(assistants.c.owner, *COLUMNS)
    .select_from(assistant_files)
    .join(assistants, assistants.c.id == assistant_files.c.assistant_id)
    .join(attachments, attachments.c.id == assistant_files.c.attachment_id)
    .where(
        assistants.c.id == bindparam("assistant"),
        or_(assistants.c.owner == bindparam("who"), literal_column("assistants.shared")),
    )
    .order_by(assistant_files.c.position)
)


def put_files(connection: Connection, owner: str, assistant_id: str, ids: Sequence[str]) -> None:
    """Makes these all files of an assistant of the owner's. Raises `InvalidInput`."""
    connection.execute(
        delete(assistant_files).where(assistant_files.c.assistant_id == assistant_id)
    )
    found = own_files(connection, owner, ids, "files")
    if any(one.kind == "image" for one in found):
        raise InvalidInput(
            "files: an assistant can have files with text, no images. Attach those to a message."
        )
    if found:
        connection.execute(
            insert(assistant_files),
            [
                {"assistant_id": assistant_id, "position": position, "attachment_id": one.id}
                for position, one in enumerate(found)
            ],
        )


def of_assistants(connection: Connection, ids: Sequence[str]) -> Attached:
    """The files of those assistants that have any."""
    return gather(connection.execute(_OF_ASSISTANTS, {"wanted": list(ids)}).all())


def background_of(connection: Connection, who: str, assistant_id: str) -> tuple[Attachment, ...]:
    """The files of one's own or a shared assistant; the id is empty where the file is not one's
    own.
    """
    rows = connection.execute(_READABLE, {"assistant": assistant_id, "who": who})
    return tuple(
        Attachment(*columns) if owner == who else replace(Attachment(*columns), id="")
        for owner, *columns in rows
    )
