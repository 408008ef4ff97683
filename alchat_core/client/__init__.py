"""A typed client of the AL-Chat service: thread-safe, built once per process.

One background loop serves the JSON calls and the followers of all threads; a follower reconnects by
itself from the last event seen, and waits for whoever reads slowly. Files go over `requests` in the
caller's thread.

    AlChatError
    ├── AlChatUnreachable       nobody answered; the request may be sent again
    └── AlChatProblem           a refusal: `status`, `code`, `detail`, `retry_after`
        ├── NotSignedIn   401
        ├── NotFound      404
        ├── Conflict      409   `code` is `run-active`, or that of a credential's fault
        ├── Invalid       422
        │   └── NothingImported   with the `report` of the import
        ├── TooMany       429
        └── Unavailable   5xx
"""

from alchat_core.client.calls import KEEP, Keep
from alchat_core.client.errors import (
    AlChatError,
    AlChatProblem,
    AlChatUnreachable,
    Conflict,
    Invalid,
    NotFound,
    NotSignedIn,
    TooMany,
    Unavailable,
)
from alchat_core.client.followers import Follower
from alchat_core.client.service import AlChatClient
from alchat_core.client.shares import Share, SharedFile, SharedMessage, SharedSource, Snapshot
from alchat_core.client.tools import Tool, ToolServer
from alchat_core.client.transfers import (
    ExportedFile,
    ImportReport,
    LeftOut,
    NothingImported,
    NotTaken,
)
from alchat_core.client.usage import UsageLine
from alchat_core.client.user import UserClient
from alchat_core.client.values import (
    TERMINAL,
    Assistant,
    AssistantFile,
    Attachment,
    Begun,
    Conversation,
    Event,
    Feedback,
    Health,
    Hit,
    Message,
    MessageRun,
    Model,
    Models,
    Page,
    Run,
    RunFailure,
    Sent,
    Shelf,
    Siblings,
    SnippetPart,
    Source,
    ToolCall,
)

__all__ = [
    "KEEP",
    "TERMINAL",
    "AlChatClient",
    "AlChatError",
    "AlChatProblem",
    "AlChatUnreachable",
    "Assistant",
    "AssistantFile",
    "Attachment",
    "Begun",
    "Conflict",
    "Conversation",
    "Event",
    "ExportedFile",
    "Feedback",
    "Follower",
    "Health",
    "Hit",
    "ImportReport",
    "Invalid",
    "Keep",
    "LeftOut",
    "Message",
    "MessageRun",
    "Model",
    "Models",
    "NotFound",
    "NotSignedIn",
    "NotTaken",
    "NothingImported",
    "Page",
    "Run",
    "RunFailure",
    "Sent",
    "Share",
    "SharedFile",
    "SharedMessage",
    "SharedSource",
    "Shelf",
    "Siblings",
    "Snapshot",
    "SnippetPart",
    "Source",
    "TooMany",
    "Tool",
    "ToolCall",
    "ToolServer",
    "Unavailable",
    "UsageLine",
    "UserClient",
]
