"""The shapes of imports and shares on the wire."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from alchat_core.api.schemas import Problem, _Wire

Username = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200, strip_whitespace=True, pattern=r"^[^\x00]*$"),
]


class NotTakenBody(_Wire):
    name: str | None = Field(description="Its title, or the name of the file.")
    reason: str


class LeftOutBody(_Wire):
    what: str
    count: int


class ImportReport(_Wire):
    imported: int = Field(description="Conversations.")
    messages: int = Field(description="Messages in them.")
    already_there: int = Field(description="Conversations that were imported before.")
    not_taken_count: int
    not_taken: list[NotTakenBody] = Field(description="The first 200.")
    left_out: list[LeftOutBody] = Field(description="What of the imported ones is not here.")
    conversation_ids: list[str] = Field(description="The first 100.")
    stopped: str | None = Field(description="Why the rest of the file was not read; null: it was.")


class ImportProblem(Problem):
    report: ImportReport | None = Field(None, description="With `nothing-imported`.")


class NewShare(_Wire):
    users: Annotated[list[Username], Field(min_length=1, max_length=100)] | None = Field(
        None, description="Who may read it, by their names in Papita. Left out: every user."
    )


class ShareBody(_Wire):
    id: str
    conversation_id: str
    title: str
    users: list[str] | None = Field(description="null: every user of the portal.")
    message_count: int
    created_at: str


class ShareList(_Wire):
    shares: list[ShareBody]


class SharedFile(_Wire):
    name: str
    media_type: str
    pages: int | None


class SharedSource(_Wire):
    n: int
    name: str
    page: int | None


class SharedMessage(_Wire):
    role: Literal["user", "assistant"]
    content: str
    model: str | None
    created_at: str
    attachments: list[SharedFile] = Field([], description="Names of files that are not shared.")
    sources: list[SharedSource] = Field(
        [], description="Where in files stands what the answer may cite, as [n]."
    )


class SharedBody(_Wire):
    id: str
    title: str
    username: str = Field(description="Who shares it.")
    created_at: str = Field(description="When the snapshot was made.")
    messages: list[SharedMessage]
