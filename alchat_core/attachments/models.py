"""Attached files as values without I/O, and their form on the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from alchat_core.ids import iso


@dataclass(frozen=True, slots=True)
class Attachment:
    """`kind` is image, pdf, docx or text; `sha256` None says that the file was deleted."""

    id: str
    sha256: str | None
    name: str
    media_type: str
    kind: str
    bytes: int
    pages: int | None
    characters: int
    created_at: int

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "mediaType": self.media_type,
            "bytes": self.bytes,
            "pages": self.pages,
            "status": "ready" if self.sha256 else "deleted",
            "createdAt": iso(self.created_at),
        }


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A piece of a file's text; `page` is None where the file has no pages."""

    attachment: Attachment
    page: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Turn:
    """A message as it goes to a provider, with its files, or the tools that were called for it."""

    role: str
    content: str
    attachments: tuple[Attachment, ...] = ()
    calls: tuple[dict[str, Any], ...] = ()
