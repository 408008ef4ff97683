"""The files of messages, for lists of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy.engine import Connection

from alchat_core.attachments.rows import of_messages
from alchat_core.conversations.models import Message


def with_attachments(connection: Connection, page: Sequence[Message]) -> list[Message]:
    """The messages, each with its files, by one query for all."""
    wanted = [message.id for message in page if message.role == "user"]
    files = of_messages(connection, wanted) if wanted else {}
    return [
        replace(message, attachments=files[message.id]) if message.id in files else message
        for message in page
    ]
