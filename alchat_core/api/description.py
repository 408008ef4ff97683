"""What the OpenAPI description says beyond what FastAPI reads from the routes.

Problems have a media type of their own, and links tell how to go on from an answer: conversation,
message, run, events.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic.alias_generators import to_camel

from alchat_core.api.problems import MEDIA_TYPE

_CONVERSATION = {"conversation_id": "$response.body#/id"}
_RUN = {"run_id": "$response.body#/runId"}
_ANSWER = {"message_id": "$response.body#/messageId"}
_QUESTION = {"message_id": "$response.body#/userMessageId"}
# Operation and status, what of its answer goes into which parameter, and of which operations.
_LINKS: tuple[tuple[str, str, dict[str, str], tuple[str, ...]], ...] = (
    (
        "createConversation",
        "201",
        _CONVERSATION,
        (
            "getConversation",
            "updateConversation",
            "deleteConversation",
            "restoreConversation",
            "listMessages",
            "sendMessage",
        ),
    ),
    (
        "listMessages",
        "200",
        {"message_id": "$response.body#/messages/0/id"},
        ("retryMessage", "continueMessage"),
    ),
    ("sendMessage", "202", _RUN, ("getRun", "followRun", "cancelRun")),
    ("sendMessage", "202", _ANSWER, ("continueMessage", "rateMessage", "unrateMessage")),
    ("sendMessage", "202", _QUESTION, ("retryMessage",)),
    (
        "uploadAttachment",
        "201",
        {"attachment_id": "$response.body#/id"},
        ("getAttachment", "getAttachmentContent", "deleteAttachment"),
    ),
    (
        "createAssistant",
        "201",
        {"assistant_id": "$response.body#/id"},
        ("getAssistant", "updateAssistant", "deleteAssistant"),
    ),
    ("retryMessage", "202", _RUN, ("getRun", "followRun", "cancelRun")),
    ("retryMessage", "202", _ANSWER, ("getComparison",)),
    ("continueMessage", "202", _RUN, ("getRun", "followRun", "cancelRun")),
    ("continueMessage", "202", _RUN, ("getRun", "followRun", "cancelRun")),
)


def operation_id(route: APIRoute) -> str:
    """The name of the function that serves it, as JavaScript would spell it."""
    return to_camel(route.name)


def install(app: FastAPI) -> None:
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        description = describe()
        operations = {
            way["operationId"]: way
            for ways in description["paths"].values()
            for way in ways.values()
        }
        for way in operations.values():
            for status, response in way["responses"].items():
                content = response.get("content", {})
                if status.startswith(("4", "5")) and "application/json" in content:
                    response["content"] = {MEDIA_TYPE: content["application/json"]}
        for name, status, parameters, targets in _LINKS:
            links = operations[name]["responses"][status].setdefault("links", {})
            for target in targets:
                links[target] = {"operationId": target, "parameters": parameters}
        return description

    app.openapi = openapi  # type: ignore[method-assign]
