"""The shapes on the wire, for reading requests and for the API description."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic.alias_generators import to_camel

Identifier = Annotated[str, StringConstraints(min_length=1, max_length=40)]
FileId = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=r"^[^\x00]*$")]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]
Folder = Annotated[str, StringConstraints(min_length=1, max_length=100, strip_whitespace=True)]
Tag = Annotated[
    str,
    StringConstraints(min_length=1, max_length=50, strip_whitespace=True, pattern=r"^[^\x00]*$"),
]
Comment = Annotated[str, StringConstraints(min_length=1, max_length=4000, strip_whitespace=True)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=100, strip_whitespace=True)]
Title = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value


Prompt = Annotated[str, StringConstraints(min_length=1), AfterValidator(_not_blank)]


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


_RANGES = {
    "temperature": "a number from 0 to 2",
    "top_p": "a number from 0 to 1",
    "max_tokens": "a whole number from 1 to 1000000",
    "seed": "a whole number from -9007199254740991 to 9007199254740991",
    "reasoning_effort": "one of none, minimal, low, medium, high and xhigh",
    "stop": "a list of 1 to 4 texts of 1 to 200 characters",
}
_SAFE = 2**53 - 1


class Parameters(_Wire):
    """How an answer is to be written; what is left out is the provider's to choose."""

    temperature: float | None = Field(None, ge=0, le=2, strict=True, allow_inf_nan=False)
    top_p: float | None = Field(None, ge=0, le=1, strict=True, allow_inf_nan=False)
    max_tokens: int | None = Field(None, ge=1, le=1_000_000, strict=True)
    seed: int | None = Field(None, ge=-_SAFE, le=_SAFE, strict=True)
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    stop: (
        Annotated[
            list[Annotated[str, StringConstraints(min_length=1, max_length=200)]],
            Field(min_length=1, max_length=4),
        ]
        | None
    ) = None

    @field_validator(*_RANGES, mode="wrap")
    @classmethod
    def _say_the_range(
        cls, value: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> Any:
        try:
            found = validate(value)
            if isinstance(found, list) and any("\x00" in text for text in found):
                raise ValueError
        except ValueError:
            raise ValueError(f"must be {_RANGES[info.field_name or '']}") from None
        return found


ToolServers = Annotated[
    list[Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=r"^[^\x00]*$")]],
    Field(max_length=100),
]


class NewConversation(_Wire):
    title: Title | None = None
    temporary: StrictBool = Field(
        False, description="In no list and no search, and deleted soon after its last use."
    )
    assistant_id: Identifier | None = Field(
        None, description="Its prompt, model and parameters are copied, as they are now."
    )
    system_prompt: Prompt | None = Field(None, description="Goes before that of the assistant.")
    parameters: Parameters | None = Field(
        None, description="Of messages that name none of their own; before the assistant's."
    )
    tools: ToolServers = Field([], description="Ids of the tool servers that it may use.")


class ChangeConversation(_Wire):
    title: Title | None = None
    pinned: StrictBool | None = None
    archived: StrictBool | None = None
    folder: Folder | None = Field(None, description="null takes it out of its folder.")
    tags: Annotated[list[Tag], Field(max_length=20)] | None = Field(
        None, description="All its tags from now on."
    )
    active_message_id: Identifier | None = Field(
        None, description="The branch through this message becomes the active one."
    )
    system_prompt: Prompt | None = Field(None, description="null takes it away.")
    parameters: Parameters | None = Field(
        None, description="Of messages that name none of their own. null takes them away."
    )
    tools: ToolServers | None = Field(
        None, description="Ids of all tool servers that it may use from now on."
    )


class NewCopy(_Wire):
    message_id: Identifier | None = Field(
        None, description="The last message of the copy. Left out: the end of the active branch."
    )
    title: Title | None = Field(None, description="Left out: that of the conversation.")


class NewMessage(_Wire):
    content: Annotated[str, StringConstraints(min_length=1)]
    model: ModelName | None = None
    parent_id: Identifier | None = Field(
        None,
        description="The answer that it follows. Left out: the end of the active branch."
        " null: none, so that it stands beside the first message, as its edit.",
    )

    parameters: Parameters | None = None
    attachments: list[FileId] = Field([], description="Ids of files that you uploaded.")

    @field_validator("content")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("must not be empty")
        return value


class NewRun(_Wire):
    model: ModelName | None = None
    parameters: Parameters | None = None


class NewAnswer(NewRun):
    beside: StrictBool = Field(
        False,
        description="Whether to compare it with the answer at the end of the active branch: it may"
        " be written at the same time as others to this message, and the branch stays.",
    )


_FILES = "Ids of files with text that you uploaded, whose text a model gets with every prompt."
_TOOLS = "Ids of the tool servers that conversations begin with."


class NewAssistant(_Wire):
    kind: Literal["prompt", "assistant"] = "assistant"
    name: Name
    prompt: Prompt
    model: ModelName | None = None
    parameters: Parameters | None = None
    shared: StrictBool = Field(False, description="Whether every user of the portal may read it.")
    files: list[FileId] = Field([], max_length=20, description=_FILES)
    tools: ToolServers = Field([], description=_TOOLS)


class ChangeAssistant(_Wire):
    kind: Literal["prompt", "assistant"] | None = None
    name: Name | None = None
    prompt: Prompt | None = None
    model: ModelName | None = Field(None, description="null: none in particular.")
    parameters: Parameters | None = Field(None, description="null: none.")
    shared: StrictBool | None = None
    files: list[FileId] | None = Field(None, max_length=20, description=_FILES)
    tools: ToolServers | None = Field(None, description=_TOOLS)


class AssistantFile(_Wire):
    id: str | None = Field(description="null: it is not yours, so you cannot read it yourself.")
    name: str
    media_type: str
    bytes: int
    pages: int | None


class AssistantBody(_Wire):
    id: str
    kind: Literal["prompt", "assistant"]
    name: str
    prompt: str
    model: str | None
    parameters: Parameters | None
    shared: bool
    own: bool = Field(description="Whether it is yours, so that you can change it.")
    owner: str = Field(description="The user name of its owner.")
    files: list[AssistantFile]
    tools: list[str]
    created_at: str
    updated_at: str


class AssistantPage(_Wire):
    assistants: list[AssistantBody]
    next_cursor: str | None


class ShelfBody(_Wire):
    name: str
    conversations: int = Field(description="Without archived and temporary ones.")


class FolderList(_Wire):
    folders: list[ShelfBody]


class TagList(_Wire):
    tags: list[ShelfBody]


class Problem(_Wire):
    """RFC 9457. `code` is stable; `detail` is a sentence that a user may read."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: dict[str, str] | None = Field(
        None, description="With `invalid-input`: a sentence for each field."
    )
    retryable: bool | None = Field(
        None, description="Where the fault lies with a key or a provider: whether to try again."
    )


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
    active_run_id: str | None = Field(
        description="The answer that is being written now, or one of those."
    )
    active_message_id: str | None = Field(
        description="The end of the active branch; null without messages."
    )
    temporary: bool
    folder: str | None
    tags: list[str]
    assistant_id: str | None = Field(
        description="The assistant that it began with, which may be gone by now."
    )
    unread: bool = Field(
        description="Whether its last answer has ended, not by Stop, and was not read since."
    )


class ConversationDetail(ConversationBody):
    system_prompt: str | None = Field(description="What every prompt begins with.")
    parameters: Parameters | None = Field(description="Of messages that name none of their own.")
    tools: list[str] = Field(
        description="Ids of the tool servers that it may use; what is gone is passed over."
    )
    title_pending: bool = Field(
        description="Whether the model is being asked for a title: read once more in a moment."
    )


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
    reasoning_tokens: int | None = Field(None, description="Among the completion tokens.")
    cached_tokens: int | None = Field(None, description="Among the prompt tokens.")
    cost_usd: float | None = Field(None, description="null: nobody knows.")


class UsageLine(_Wire):
    """`costUsd` is the sum of what is known; `unpricedRequests` are those of unknown cost."""

    key: str = Field(description="The day, or what the group is called by its id.")
    label: str | None = Field(description="The title of a conversation.")
    requests: int
    unpriced_requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float


class UsageList(_Wire):
    group: Literal["day", "model", "conversation", "credential"]
    usage: list[UsageLine]


class SiblingsBody(_Wire):
    """The versions of a message, itself among them, oldest first."""

    count: int
    index: int = Field(description="Counted from 0.")
    ids: list[str] = Field(description="At most 100, those around it.")


class NewFeedback(_Wire):
    rating: Literal["up", "down"]
    comment: Comment | None = None


class FeedbackBody(_Wire):
    rating: Literal["up", "down"]
    comment: str | None
    updated_at: str


class AttachmentBody(_Wire):
    id: str
    name: str
    media_type: str
    bytes: int
    pages: int | None = Field(description="null: it has none.")
    status: Literal["ready", "deleted"]
    created_at: str


class SourceBody(_Wire):
    n: int
    attachment_id: str | None = Field(description="null: the file is not here, or not yours.")
    name: str
    page: int | None
    excerpt: str = Field(
        description="Its beginning, at most 300 characters; empty in a copy of a snapshot."
    )


class ToolCallBody(_Wire):
    id: str
    at: int = Field(description="How many characters of the answer were there before it.")
    server_id: str | None
    server: str | None = Field(description="The server's name. null: there is no such tool.")
    tool: str
    arguments: dict[str, Any] | str = Field(
        description="What the model gave; a text where that was no JSON object."
    )
    content: str | None = Field(description="The result as text. null: it was not finished.")
    truncated: bool = Field(description="Whether there was more of it.")
    is_error: bool
    seconds: float | None


class MessageBody(_Wire):
    id: str
    conversation_id: str
    parent_id: str | None
    role: Literal["user", "assistant"]
    content: str = Field(description="While a run goes on, what comes after this is in its events.")
    model: str | None
    created_at: str
    run: MessageRun | None
    error: RunErrorBody | None
    usage: Usage | None
    reasoning: str | None = Field(description="What the model thought before it answered.")
    reasoning_seconds: float | None = Field(description="For how long. null: nobody knows.")
    credential_id: str | None = Field(
        description="Which of your credentials in Papita the newest run of the answer used."
    )
    feedback: FeedbackBody | None
    attachments: list[AttachmentBody]
    sources: list[SourceBody] = Field(
        description="The excerpts of attached files that the answer may cite, as [n]; none where"
        " the model was given the files whole."
    )
    tool_calls: list[ToolCallBody] = Field(description="In the order in which they were asked for.")
    siblings: SiblingsBody
    compared_with: list[str] = Field(
        description="The answers of its comparison in the order asked for, itself among them, at"
        " most 8; empty if it is in none."
    )


class SnippetPart(_Wire):
    text: str
    hit: bool = Field(description="Whether it is to be marked.")


class HitBody(_Wire):
    conversation_id: str
    message_id: str | None = Field(description="null: the title is the hit.")
    title: str
    role: Literal["user", "assistant"] | None
    created_at: str
    snippet: list[SnippetPart] = Field(description="Plain text around the first hit.")


class HitPage(_Wire):
    hits: list[HitBody]
    next_cursor: str | None


class MessagePage(_Wire):
    messages: list[MessageBody]
    next_cursor: str | None = Field(description="Give it as `before` to get what is older.")


class Comparison(_Wire):
    items: list[MessageBody] = Field(description="In the order in which they were asked for.")


class SentBody(_Wire):
    message_id: str = Field(description="The assistant's message.")
    run_id: str
    user_message_id: str = Field(description="The message that is answered.")


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
    parameters: Parameters | None = Field(description="What was asked for beside the model.")
    usage: Usage | None = Field(description="Of all its requests to the provider.")


class EventBody(_Wire):
    """One server-sent event. `data` is JSON, and what is in it depends on `event`."""

    id: str = Field(pattern=r"^[0-9]+$", description="Its number; numbers have no gaps.")
    event: str
    data: str


class ModelBody(_Wire):
    id: str
    input_usd: float | None = Field(description="US dollars per million tokens; null: unknown.")
    output_usd: float | None = Field(description="The same, of what the model writes.")
    context_window: int | None = Field(description="Tokens of prompt and answer together.")


class ModelList(_Wire):
    models: list[ModelBody] = Field(description="Without those that only transcribe.")
    default: str | None
    transcribes: str | None = Field(
        description="The model that turns recordings into text; null: there is none."
    )


class TranscriptionBody(_Wire):
    text: str = Field(description="What is said in the recording; empty if no word is.")


class HealthBody(_Wire):
    status: Literal["ok"]
