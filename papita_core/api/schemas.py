"""The REST API's bodies, camelCase on the wire."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from papita_core.vault.service import CredentialInfo

Text = Annotated[str, StringConstraints(max_length=4096)]


class Body(BaseModel):
    """What a caller sends: unknown fields are refused, and no error shows the input."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=False, extra="forbid", hide_input_in_errors=True
    )


class Answer(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        from_attributes=True,
        serialize_by_alias=True,
    )


class Secret(BaseModel):
    """The secret fields of a credential type; `api_key` for OpenAI."""

    model_config = ConfigDict(
        extra="allow",
        hide_input_in_errors=True,
        json_schema_extra={"examples": [{"api_key": "<your key>"}]},
    )
    __pydantic_extra__: dict[str, Text]

    def values(self) -> dict[str, str]:
        return dict(self.__pydantic_extra__)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield from ()


class NewCredentialBody(Body):
    credential_type: Annotated[str, Field(max_length=64, examples=["openai"])]
    credentials: Secret
    project_id: Annotated[str | None, Field(max_length=64, examples=["al-chat"])] = None
    label: Annotated[str | None, Field(max_length=200)] = None
    base_url: Annotated[str | None, Field(max_length=2048)] = None
    expires_at: AwareDatetime | None = None


class ReplaceCredentialBody(Body):
    """Replaces all of it; leave `credentials` out to keep the secret."""

    credentials: Secret | None = None
    project_id: Annotated[str | None, Field(max_length=64)] = None
    label: Annotated[str | None, Field(max_length=200)] = None
    base_url: Annotated[str | None, Field(max_length=2048)] = None
    expires_at: AwareDatetime | None = None


class CredentialView(Answer):
    id: str
    label: str
    credential_type: str
    project_id: str | None
    hint: str
    base_url: str
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime
    last_used_at: datetime | None
    checked_at: datetime | None
    status: str

    @classmethod
    def of(cls, info: CredentialInfo) -> CredentialView:
        return cls.model_validate(info)


class CredentialAnswer(Answer):
    credentials: CredentialView


class CredentialList(Answer):
    credentials: list[CredentialView]
    next_cursor: str | None


class LentCredential(Answer):
    id: str
    credential_type: str
    project_id: str | None
    base_url: str
    credentials: Annotated[dict[str, str], Field(examples=[{"api_key": "<the key>"}], repr=False)]


class Lease(Answer):
    id: str
    expires_at: datetime


class LoanAnswer(Answer):
    credentials: LentCredential
    lease: Lease


class TestAnswer(Answer):
    __test__ = False

    status: Literal["ok", "rejected", "rate_limited", "unreachable", "refused", "error"]
    checked_at: datetime
    detail: str


class LaunchAnswer(Answer):
    project_id: str
    token: Annotated[str, Field(examples=["<user token>"], repr=False)]
    expires_at: datetime
    url: str


class TokenAnswer(BaseModel):
    """RFC 8693, section 2.2.1; snake_case as the RFC writes it."""

    access_token: Annotated[str, Field(examples=["<project token>"], repr=False)]
    issued_token_type: str
    token_type: str
    expires_in: int


class FieldProblem(BaseModel):
    field: str
    detail: str


class Problem(BaseModel):
    """RFC 9457 problem details. `code` is stable; docs/api.md lists all codes."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldProblem] | None = None
    error: str | None = None
