"""Calls about snapshots: those that the user shares, and those of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from alchat_core.client.calls import Calls, given, segment
from alchat_core.client.reading import conversation_of
from alchat_core.client.values import Conversation


@dataclass(frozen=True, slots=True)
class Share:
    """A snapshot as its owner sees it. `users` is None if every user of the portal may read it."""

    id: str
    conversation_id: str
    title: str
    users: tuple[str, ...] | None
    message_count: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class SharedFile:
    """The name of a file; the file itself is not shared."""

    name: str
    media_type: str
    pages: int | None


@dataclass(frozen=True, slots=True)
class SharedSource:
    """Where in a file stands what the answer cites as [n]."""

    n: int
    name: str
    page: int | None


@dataclass(frozen=True, slots=True)
class SharedMessage:
    role: Literal["user", "assistant"]
    content: str
    model: str | None
    created_at: datetime
    attachments: tuple[SharedFile, ...] = ()
    sources: tuple[SharedSource, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What `username` shares, as it was at `created_at`."""

    id: str
    title: str
    username: str
    created_at: datetime
    messages: tuple[SharedMessage, ...]


class ShareCalls(Calls):
    def share(self, conversation_id: str, users: Sequence[str] | None = None) -> Share:
        """Makes a snapshot of the active branch for the users of these names, or for everybody."""
        body = given(users=None if users is None else list(users))
        return _share_of(self._call("POST", _path(conversation_id), body=body))

    def shares(self, conversation_id: str | None = None) -> tuple[Share, ...]:
        """The user's own snapshots, of all conversations or of one, the newest first."""
        path = "/api/shares" if conversation_id is None else _path(conversation_id)
        return tuple(_share_of(item) for item in self._call("GET", path)["shares"])

    def revoke_share(self, share_id: str) -> None:
        """From then on nobody can read it."""
        self._call("DELETE", f"/api/shares/{segment(share_id)}")

    def shared(self, share_id: str) -> Snapshot:
        """What somebody shares with the user. `NotFound`, too, once it is revoked."""
        return _snapshot_of(self._call("GET", f"/api/shared/{segment(share_id)}"))

    def copy_shared(self, share_id: str) -> Conversation:
        """A conversation of the user's own that begins with it."""
        return conversation_of(self._call("POST", f"/api/shared/{segment(share_id)}/copy"))


def _path(conversation_id: str) -> str:
    return f"/api/conversations/{segment(conversation_id)}/shares"


def _share_of(item: Mapping[str, Any]) -> Share:
    return Share(
        id=item["id"],
        conversation_id=item["conversationId"],
        title=item["title"],
        users=None if item["users"] is None else tuple(item["users"]),
        message_count=item["messageCount"],
        created_at=datetime.fromisoformat(item["createdAt"]),
    )


def _snapshot_of(item: Mapping[str, Any]) -> Snapshot:
    return Snapshot(
        id=item["id"],
        title=item["title"],
        username=item["username"],
        created_at=datetime.fromisoformat(item["createdAt"]),
        messages=tuple(_message_of(one) for one in item["messages"]),
    )


def _message_of(item: Mapping[str, Any]) -> SharedMessage:
    return SharedMessage(
        role=item["role"],
        content=item["content"],
        model=item["model"],
        created_at=datetime.fromisoformat(item["createdAt"]),
        attachments=tuple(
            SharedFile(one["name"], one["mediaType"], one["pages"])
            for one in item.get("attachments", ())
        ),
        sources=tuple(
            SharedSource(one["n"], one["name"], one["page"]) for one in item.get("sources", ())
        ),
    )
