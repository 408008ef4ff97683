"""One user of the service."""

from __future__ import annotations

from alchat_core.client.account import AccountCalls
from alchat_core.client.answers import AnswerCalls
from alchat_core.client.assistants import AssistantCalls
from alchat_core.client.attachments import AttachmentCalls
from alchat_core.client.conversations import ConversationCalls
from alchat_core.client.shares import ShareCalls
from alchat_core.client.tools import ToolCalls
from alchat_core.client.transcriptions import TranscriptionCalls
from alchat_core.client.transfers import TransferCalls
from alchat_core.client.usage import UsageCalls


class UserClient(
    ConversationCalls,
    AnswerCalls,
    AssistantCalls,
    AttachmentCalls,
    TransferCalls,
    ShareCalls,
    ToolCalls,
    UsageCalls,
    TranscriptionCalls,
    AccountCalls,
):
    """All that one user can ask for. Raises `AlChatError`."""
