"""Calls about conversations: find, read, make, change, delete, rate what is in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict, Unpack

from alchat_core.client.calls import KEEP, Calls, Keep, changed, chosen, given, segment
from alchat_core.client.reading import (
    conversation_of,
    feedback_of,
    hit_of,
    message_of,
    shelf_of,
)
from alchat_core.client.values import Conversation, Feedback, Hit, Message, Page, Shelf


class NewConversation(TypedDict, total=False):
    """What a conversation can be made with, besides its title. `tools` are ids of tool servers."""

    temporary: bool
    assistant_id: str | None
    system_prompt: str | None
    parameters: Mapping[str, Any] | None
    tools: Sequence[str]


class ConversationCalls(Calls):
    def conversations(
        self,
        search: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
        *,
        archived: bool = False,
        folder: str | None = None,
        tag: str | None = None,
    ) -> Page[Conversation]:
        """Pinned ones first, then by the last message; without their system prompts."""
        params = {
            "search": search,
            "cursor": cursor,
            "limit": limit,
            "archived": "true" if archived else None,
            "folder": folder,
            "tag": tag,
        }
        found = self._call("GET", "/api/conversations", params=params)
        return Page(
            tuple(conversation_of(item) for item in found["conversations"]), found["nextCursor"]
        )

    def search(
        self,
        words: str,
        cursor: str | None = None,
        limit: int = 20,
        *,
        folder: str | None = None,
        tag: str | None = None,
        archived: bool | None = None,
        role: Literal["user", "assistant"] | None = None,
        model: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Page[Hit]:
        """Titles and messages with all of the words, the newest first."""
        params = {
            "q": words,
            "cursor": cursor,
            "limit": limit,
            "folder": folder,
            "tag": tag,
            "archived": None if archived is None else str(archived).lower(),
            "role": role,
            "model": model,
            "since": since.isoformat() if since else None,
            "until": until.isoformat() if until else None,
        }
        found = self._call("GET", "/api/search", params=params)
        return Page(tuple(hit_of(item) for item in found["hits"]), found["nextCursor"])

    def folders(self) -> tuple[Shelf, ...]:
        """Folders in use, by name."""
        return tuple(shelf_of(item) for item in self._call("GET", "/api/folders")["folders"])

    def tags(self) -> tuple[Shelf, ...]:
        """Tags in use, by name."""
        return tuple(shelf_of(item) for item in self._call("GET", "/api/tags")["tags"])

    def create_conversation(
        self, title: str | None = None, **fields: Unpack[NewConversation]
    ) -> Conversation:
        """With prompt, model and parameters of an assistant, and before them what is given here."""
        body = new_conversation(title, fields)
        return conversation_of(self._call("POST", "/api/conversations", body=body))

    def conversation(self, conversation_id: str) -> Conversation:
        return conversation_of(self._call("GET", _path(conversation_id)))

    def update_conversation(
        self,
        conversation_id: str,
        *,
        title: str | None = None,
        pinned: bool | None = None,
        archived: bool | None = None,
        tags: Sequence[str] | None = None,
        tools: Sequence[str] | None = None,
        folder: str | Keep | None = KEEP,
        system_prompt: str | Keep | None = KEEP,
        parameters: Mapping[str, Any] | Keep | None = KEEP,
    ) -> Conversation:
        """What is not given stays as it is; None takes folder, prompt and parameters away.

        `tags` and `tools`, the ids of tool servers, are all that it has from then on.
        """
        body = given(
            title=title,
            pinned=pinned,
            archived=archived,
            tags=None if tags is None else list(tags),
            tools=None if tools is None else list(tools),
        ) | changed(folder=folder, system_prompt=system_prompt, parameters=chosen(parameters))
        return conversation_of(self._call("PATCH", _path(conversation_id), body=body))

    def choose_branch(self, conversation_id: str, message_id: str) -> Conversation:
        """Makes the branch through that message the active one, down to its newest leaf."""
        body = {"activeMessageId": message_id}
        return conversation_of(self._call("PATCH", _path(conversation_id), body=body))

    def delete_conversation(self, conversation_id: str) -> None:
        self._call("DELETE", _path(conversation_id))

    def restore_conversation(self, conversation_id: str) -> Conversation:
        """Takes a deletion back. `NotFound`, too, when the time for it is over."""
        return conversation_of(self._call("POST", f"{_path(conversation_id)}/restore"))

    def copy_conversation(
        self, conversation_id: str, message_id: str | None = None, *, title: str | None = None
    ) -> Conversation:
        """A new one with the active branch, or with the one that ends in that message.

        Without a title of its own it has that of the conversation.
        """
        body = given(message_id=message_id, title=title)
        return conversation_of(self._call("POST", f"{_path(conversation_id)}/copy", body=body))

    def messages(
        self, conversation_id: str, before: str | None = None, limit: int = 100
    ) -> Page[Message]:
        """A page of the active branch, newest last; give `next_cursor` as `before` for older."""
        found = self._call(
            "GET",
            f"{_path(conversation_id)}/messages",
            params={"before": before, "limit": limit},
        )
        return Page(tuple(message_of(item) for item in found["messages"]), found["nextCursor"])

    def comparison(self, message_id: str) -> tuple[Message, ...]:
        """The answers with which that one is compared, itself among them, in the order asked for;
        none if it is in no comparison.
        """
        found = self._call("GET", f"/api/messages/{segment(message_id)}/comparison")
        return tuple(message_of(item) for item in found["items"])

    def rate(
        self, message_id: str, rating: Literal["up", "down"], comment: str | None = None
    ) -> Feedback:
        """Feedback on an answer, in place of any that was there."""
        body = given(rating=rating, comment=comment)
        found = self._call("PUT", f"/api/messages/{segment(message_id)}/feedback", body=body)
        return feedback_of(found)

    def unrate(self, message_id: str) -> None:
        """Takes the feedback back."""
        self._call("DELETE", f"/api/messages/{segment(message_id)}/feedback")


def _path(conversation_id: str) -> str:
    return f"/api/conversations/{segment(conversation_id)}"


def new_conversation(title: str | None, fields: NewConversation) -> dict[str, Any]:
    """What is sent to make a conversation."""
    return given(
        title=title,
        temporary=fields.get("temporary") or None,
        assistant_id=fields.get("assistant_id"),
        system_prompt=fields.get("system_prompt"),
        parameters=chosen(fields.get("parameters")),
        tools=list(fields.get("tools", ())) or None,
    )
