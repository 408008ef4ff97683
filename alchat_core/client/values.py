"""The values that the client returns: frozen, without I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, Literal, TypeVar

from alchat_core.client.errors import AlChatError

T = TypeVar("T")

TERMINAL: Final = frozenset({"run.completed", "run.failed", "run.cancelled", "run.interrupted"})


@dataclass(frozen=True, slots=True)
class Health:
    """`reason` is a sentence, empty if all is well."""

    state: Literal["ok", "not-ready", "unreachable"]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """`next_cursor` is None on the last page. Iterating gives the items."""

    items: tuple[T, ...]
    next_cursor: str | None

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)


@dataclass(frozen=True, slots=True)
class Conversation:
    """In a list `system_prompt` and `parameters` are None, `tools` (ids of tool servers) is empty
    and `title_pending` is False; read it alone to learn them. While `title_pending`, it is worth
    reading once more in a moment.
    """

    id: str
    title: str
    model: str | None
    pinned: bool
    archived: bool
    created_at: datetime
    updated_at: datetime
    last_message_at: datetime
    active_run_id: str | None
    active_message_id: str | None = None
    temporary: bool = False
    folder: str | None = None
    tags: tuple[str, ...] = ()
    assistant_id: str | None = None
    system_prompt: str | None = None
    parameters: Mapping[str, Any] | None = None
    title_pending: bool = False
    tools: tuple[str, ...] = ()
    unread: bool = False


@dataclass(frozen=True, slots=True)
class Shelf:
    """A folder or a tag, with how many conversations it has."""

    name: str
    conversations: int


@dataclass(frozen=True, slots=True)
class AssistantFile:
    """A file of an assistant. `id` is None where it is somebody else's: only a model reads it."""

    id: str | None
    name: str
    media_type: str
    bytes: int
    pages: int | None


@dataclass(frozen=True, slots=True)
class Assistant:
    """`own`: whether the user can change it; `owner` is a user name."""

    id: str
    kind: Literal["prompt", "assistant"]
    name: str
    prompt: str
    model: str | None
    parameters: Mapping[str, Any] | None
    shared: bool
    own: bool
    owner: str
    created_at: datetime
    updated_at: datetime
    files: tuple[AssistantFile, ...] = ()
    tools: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SnippetPart:
    """`hit`: whether it is to be marked."""

    text: str
    hit: bool


@dataclass(frozen=True, slots=True)
class Hit:
    """Without a `message_id` the title is the hit."""

    conversation_id: str
    message_id: str | None
    title: str
    role: Literal["user", "assistant"] | None
    created_at: datetime
    snippet: tuple[SnippetPart, ...]


@dataclass(frozen=True, slots=True)
class Feedback:
    rating: Literal["up", "down"]
    comment: str | None
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Siblings:
    """Versions of a message, itself among them, oldest first: `index` counts from 0, and `ids` are
    those around it, where there are very many.
    """

    count: int
    index: int
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunFailure:
    """Why an answer failed. `retry_after` is in seconds."""

    code: str
    message: str
    retryable: bool
    retry_after: int | None


@dataclass(frozen=True, slots=True)
class MessageRun:
    id: str
    state: str


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file of the user. `pages` is None where it has none; `status` is ready or deleted."""

    id: str
    name: str
    media_type: str
    bytes: int
    pages: int | None
    status: Literal["ready", "deleted"]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Source:
    """The excerpt of a file that an answer cites as [n]; `excerpt` is its beginning.

    `attachment_id` is None where the file is not here, in what was imported or copied, or belongs
    to somebody else's assistant.
    """

    n: int
    attachment_id: str | None
    name: str
    page: int | None
    excerpt: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that was called after `at` characters of the answer. `content` is None where the call
    was not finished, `server` and `server_id` where there was no such tool; `arguments` are a text
    where they were no JSON object.
    """

    id: str
    at: int
    server_id: str | None
    server: str | None
    tool: str
    arguments: Mapping[str, Any] | str
    content: str | None
    truncated: bool
    is_error: bool
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Message:
    """While `run.state` is queued or running, follow the run from 0: what its events say comes
    after `content`, which is empty unless the answer is being continued. `compared_with` are the
    ids of all answers of its comparison in the order asked for, its own among them.
    """

    id: str
    conversation_id: str
    parent_id: str | None
    role: Literal["user", "assistant"]
    content: str
    model: str | None
    created_at: datetime
    run: MessageRun | None
    error: RunFailure | None
    usage: Mapping[str, Any] | None
    reasoning: str | None = None
    reasoning_seconds: float | None = None
    credential_id: str | None = None
    siblings: Siblings | None = None
    feedback: Feedback | None = None
    attachments: tuple[Attachment, ...] = ()
    sources: tuple[Source, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    compared_with: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Model:
    """US dollars per million tokens read and written, and its window in tokens; None is unknown."""

    id: str
    input_usd: float | None = None
    output_usd: float | None = None
    context_window: int | None = None


@dataclass(frozen=True, slots=True)
class Models:
    """Models for a chat, the default first. `transcribes` is the one that `transcribe` asks, None
    if there is none. Iterating gives the models.
    """

    items: tuple[Model, ...]
    transcribes: str | None = None

    def __iter__(self) -> Iterator[Model]:
        return iter(self.items)


@dataclass(frozen=True, slots=True)
class Run:
    id: str
    conversation_id: str
    message_id: str
    user_message_id: str
    state: str
    model: str | None
    created_at: datetime
    finished_at: datetime | None
    last_event: int
    error: RunFailure | None
    credential_id: str | None = None
    credential_type: str | None = None
    parameters: Mapping[str, Any] | None = None

    @property
    def active(self) -> bool:
        return self.state in ("queued", "running")


@dataclass(frozen=True, slots=True)
class Sent:
    """`message_id` is the assistant's message, `user_message_id` the one that it answers."""

    message_id: str
    run_id: str
    user_message_id: str


@dataclass(frozen=True, slots=True)
class Begun:
    """A new conversation, and what came of its first message."""

    conversation_id: str
    outcome: Sent | AlChatError

    def taken(self) -> Sent:
        """The message and its answer. Raises why it was not taken."""
        if isinstance(self.outcome, AlChatError):
            raise self.outcome
        return self.outcome


@dataclass(frozen=True, slots=True)
class Event:
    """`id` counts from 1; `data` as the service sends it, for example {"text": "…"}."""

    id: int
    type: str
    data: Mapping[str, Any]

    @property
    def terminal(self) -> bool:
        return self.type in TERMINAL
