"""One user of the service."""

from __future__ import annotations

from alchat_core.client.answers import AnswerCalls
from alchat_core.client.assistants import AssistantCalls
from alchat_core.client.attachments import AttachmentCalls
from alchat_core.client.conversations import ConversationCalls
from alchat_core.client.usage import UsageCalls


class UserClient(ConversationCalls, AnswerCalls, AssistantCalls, AttachmentCalls, UsageCalls):
    """All that one user can ask for. Raises `AlChatError`."""
