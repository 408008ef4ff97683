"""The shapes on the wire, for reading requests and for the API description."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator
from pydantic.alias_generators import to_camel

Identifier = Annotated[str, StringConstraints(min_length=1, max_length=40)]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]
Title = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]


class _Wire(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", hide_input_in_errors=True
    )

    @field_validator("*", mode="after")
    @classmethod
    def _no_null_characters(cls, value: Any) -> Any:
        # PostgreSQL cannot store them, and no text needs them.
        if isinstance(value, str) and "\x00" in value:
            raise ValueError("must not contain null characters")
        return value


class NewConversation(_Wire):
    title: Title | None = None


class ChangeConversation(_Wire):
    title: Title | None = None
    pinned: bool | None = None
    archived: bool | None = None


class NewMessage(_Wire):
    content: Annotated[str, StringConstraints(min_length=1)]
    model: ModelName | None = None
    parent_id: Identifier | None = None

    @field_validator("content")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("must not be empty")
        return value


class NewRun(_Wire):
    model: ModelName | None = None


class Problem(_Wire):
    """RFC 9457. `code` is stable; `detail` is a sentence that a user may read."""

    type: str
    title: str
    status: int
    detail: str
    code: str


class RunErrorBody(_Wire):
    code: str
    message: str
    retryable: bool
    retry_after: int | None = Field(description="Seconds.")


class ConversationBody(_Wire):
    id: str
    title: str
    model: str | None = Field(description="The model of the last answer.")
    pinned: bool
    archived: bool
    created_at: str
    updated_at: str
    last_message_at: str
    active_run_id: str | None = Field(description="The answer that is being written now.")


class ConversationPage(_Wire):
    conversations: list[ConversationBody]
    next_cursor: str | None


RunState = Literal["queued", "running", "completed", "cancelled", "failed", "interrupted"]


class MessageRun(_Wire):
    id: str
    state: RunState


class Usage(_Wire):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None


class MessageBody(_Wire):
    id: str
    conversation_id: str
    parent_id: str | None
    role: Literal["user", "assistant"]
    content: str = Field(description="Empty while the run goes on: follow its events.")
    model: str | None
    created_at: str
    run: MessageRun | None
    error: RunErrorBody | None
    usage: Usage | None


class MessagePage(_Wire):
    messages: list[MessageBody]
    next_cursor: str | None = Field(description="Give it as `before` to get what is older.")


class SentBody(_Wire):
    message_id: str = Field(description="The assistant's message.")
    run_id: str


class RunBody(_Wire):
    id: str
    conversation_id: str
    message_id: str
    user_message_id: str
    state: RunState
    model: str | None
    created_at: str
    finished_at: str | None
    last_event: int
    error: RunErrorBody | None
    credential_id: str | None = Field(description="Which of your credentials in Papita it used.")
    credential_type: str | None


class ModelBody(_Wire):
    id: str


class ModelList(_Wire):
    models: list[ModelBody]
    default: str | None


class HealthBody(_Wire):
    status: Literal["ok"]
