"""What the service hands back for a new run, and what it holds of one that it is writing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from alchat_core.attachments.models import Attachment
from alchat_core.auth import User
from alchat_core.conversations.search import Entry
from alchat_core.credential_manager import Loan
from alchat_core.runs.events import CANCELLED, INTERRUPTED, Ending
from alchat_core.usage.spent import Use


@dataclass(frozen=True, slots=True)
class Sent:
    """`message_id` is the assistant's message, `run_id` the run that writes it; `user_message_id`
    is the message that it answers.
    """

    message_id: str
    run_id: str
    user_message_id: str


STOPPED_SHORT = Ending(INTERRUPTED, {})
STOPPED = Ending(CANCELLED, {})


@dataclass(slots=True)
class Live:
    """A run that this process is writing. `ending` is what a cancel of its task means.

    `kept` is the text of an earlier run that this one goes on with; `defaults` are the parameters
    of the conversation, beside which `parameters` came with the message. `background` are the
    files of its assistant. `uses` are its requests so far, `usage_before` is what the text that is
    kept has used. `tools` are ids of tool servers, `calls` the tools that were called for this
    message, by earlier runs as well.
    `beside` is the first answer of the comparison for which this one was asked.
    `title` is what the conversation is called from now on. `loan` is one that was asked for before
    the answer begins. `entries` are to be put into the search index beside its events.
    """

    id: str
    user: User
    conversation_id: str
    message_id: str
    user_message_id: str
    content: str
    parent_id: str | None
    model: str | None
    kept: str = ""
    parameters: dict[str, Any] | None = None
    defaults: dict[str, Any] | None = None
    system_prompt: str | None = None
    attachments: tuple[Attachment, ...] = ()
    background: tuple[Attachment, ...] = ()
    wants_title: bool = False
    task: asyncio.Task[None] | None = None
    loan: asyncio.Task[Loan] | None = None
    ending: Ending = STOPPED_SHORT
    uses: list[Use] = field(default_factory=list)
    usage_before: dict[str, Any] | None = None
    tools: tuple[str, ...] = ()
    calls: list[dict[str, Any]] = field(default_factory=list)
    entries: tuple[Entry, ...] = ()
    beside: str | None = None
    title: str = ""
