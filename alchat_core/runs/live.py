"""What the service hands back for a new run, and what it holds of one that it is writing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from alchat_core.attachments.models import Attachment
from alchat_core.auth import User
from alchat_core.runs.events import CANCELLED, INTERRUPTED, Ending
from alchat_core.usage.spent import Use


@dataclass(frozen=True, slots=True)
class Sent:
    """`message_id` is the assistant's message, `run_id` the run that writes it."""

    message_id: str
    run_id: str


STOPPED_SHORT = Ending(INTERRUPTED, {})
STOPPED = Ending(CANCELLED, {})


@dataclass(slots=True)
class Live:
    """A run that this process is writing. `ending` is what a cancel of its task means.

    `kept` is the text of an earlier run that this one goes on with; `defaults` are the parameters
    of the conversation, beside which `parameters` came with the message. `uses` are
    its requests so far, `usage_before` is what the text that is kept has used.
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
    wants_title: bool = False
    task: asyncio.Task[None] | None = None
    ending: Ending = STOPPED_SHORT
    uses: list[Use] = field(default_factory=list)
    usage_before: dict[str, Any] | None = None
