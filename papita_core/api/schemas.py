"""The REST API's bodies, camelCase on the wire."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
)
from pydantic.alias_generators import to_camel

from papita_core.credential_types import CredentialType
from papita_core.usage.budgets import KEEP, Budget, Keep, Spending, nano
from papita_core.vault.records import CredentialInfo

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


Amount = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False, strict=True)]
Period = Literal["day", "month"]


class BudgetBody(Body):
    """What may be spent in a day or a month of UTC; with `projectId`, by that project alone."""

    limit_usd: Annotated[Amount, Field(ge=0.01, examples=[20])]
    period: Period
    project_id: Annotated[str | None, Field(max_length=64, examples=["al-chat"])] = None

    def value(self) -> Budget:
        return Budget(nano(self.limit_usd), self.period, self.project_id)


class NewCredentialBody(Body):
    credential_type: Annotated[str, Field(max_length=64, examples=["openai"])]
    credentials: Secret
    project_id: Annotated[str | None, Field(max_length=64, examples=["al-chat"])] = None
    label: Annotated[str | None, Field(max_length=200)] = None
    base_url: Annotated[str | None, Field(max_length=2048)] = None
    expires_at: AwareDatetime | None = None
    budget: BudgetBody | None = None


class ReplaceCredentialBody(Body):
    """Replaces all of it; leave `credentials` out to keep the secret, and `budget` to keep that."""

    credentials: Secret | None = None
    project_id: Annotated[str | None, Field(max_length=64)] = None
    label: Annotated[str | None, Field(max_length=200)] = None
    base_url: Annotated[str | None, Field(max_length=2048)] = None
    expires_at: AwareDatetime | None = None
    budget: Annotated[BudgetBody | None, Field(description="null takes it away.")] = None

    def wanted_budget(self) -> Budget | Keep | None:
        if "budget" not in self.model_fields_set:
            return KEEP
        return None if self.budget is None else self.budget.value()


class BudgetState(Answer):
    """Where a budget stands. `warning`: four fifths or more are spent."""

    limit_usd: float
    spent_usd: float
    period: Period
    warning: bool
    begins_anew_at: datetime


class BudgetView(BudgetState):
    """`unpricedRequests` are in the period, too, and count for nothing: nobody knows their cost."""

    project_id: str | None
    unpriced_requests: int

    @classmethod
    def of(cls, spending: Spending) -> BudgetView:
        return cls.model_validate(
            {
                **spending.as_json(),
                "projectId": spending.budget.project_id,
                "unpricedRequests": spending.unpriced,
            }
        )


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
    last_used_by: Annotated[str | None, Field(examples=["al-chat"])]
    checked_at: datetime | None
    disabled: bool
    blocked: bool
    shared: Literal["nobody", "named", "everybody"]
    status: Annotated[
        str,
        Field(
            description="`blocked`, `disabled`, `expired`, `unreadable`, `untested`,"
            " or what the last test said.",
            examples=["ok"],
        ),
    ]
    budget: BudgetView | None

    @field_validator("budget", mode="before")
    @classmethod
    def _standing(cls, value: object) -> object:
        return BudgetView.of(value) if isinstance(value, Spending) else value

    @classmethod
    def of(cls, info: CredentialInfo) -> CredentialView:
        return cls.model_validate(info)


class CredentialAnswer(Answer):
    credentials: CredentialView


class CredentialList(Answer):
    credentials: list[CredentialView]
    next_cursor: str | None


class SharesBody(Body):
    """Who may use the credential through projects; the whole list. Nobody at all ends it."""

    everybody: bool = False
    usernames: Annotated[
        list[Annotated[str, Field(max_length=64)]], Field(max_length=200, examples=[["ben"]])
    ] = []


class SharesAnswer(Answer):
    everybody: bool
    usernames: list[str]


class FieldView(Answer):
    """One value of a type. `secret` says that a form hides what is typed."""

    name: str
    label: str
    required: bool
    secret: bool


class CredentialTypeView(Answer):
    """One type. With `ownFields`, the caller names 1 to 20 fields; `keyUrl` is where one gets a
    key; `protocol` is the word by which projects ask for it besides its id.
    """

    id: str
    title: str
    summary: str
    protocol: str
    takes_base_url: bool
    base_url_required: bool
    default_base_url: str | None
    fields: list[FieldView]
    own_fields: bool
    key_url: str | None
    env_names: list[str]

    @classmethod
    def of(cls, kind: CredentialType) -> CredentialTypeView:
        return cls.model_validate(kind)


class CredentialTypeList(Answer):
    credential_types: list[CredentialTypeView]


class LentCredential(Answer):
    id: str
    credential_type: str
    project_id: str | None
    base_url: str | None
    credentials: Annotated[dict[str, str], Field(examples=[{"api_key": "<the key>"}], repr=False)]


class Lease(Answer):
    id: str
    expires_at: datetime


class LoanAnswer(Answer):
    """`budget` is there where the credential has one."""

    credentials: LentCredential
    lease: Lease
    budget: BudgetState | None = None


Id = Annotated[str, StringConstraints(pattern="^[0-9a-f-]{36}$")]


class LoanToCheck(Body):
    id: Annotated[Id, Field(description="The lease's id.")]
    credential_id: Id


class LoansBody(Body):
    leases: Annotated[list[LoanToCheck], Field(max_length=500)]


Word = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class WantedLoan(Body):
    """One loan: the parameters of `GET /api/credentials`, with the project token that opens it."""

    token: Annotated[str, Field(max_length=200, description="The project token.")]
    username: Word
    credential_type: Word
    run_id: Word | None = None
    base_url: Annotated[str, Field(max_length=2048)] | None = None
    request_id: Annotated[Word, Field(description="As X-Request-Id, for the audit log.")] | None = (
        None
    )


class WantedLoans(Body):
    loans: Annotated[list[WantedLoan], Field(min_length=1, max_length=64)]


class LoanOutcome(Answer):
    """Either the `loan`, with status 200, or the `problem` with the status that it would have had
    alone; `retryAfter` is in seconds.
    """

    status: int
    loan: LoanAnswer | None = None
    problem: Problem | None = None
    retry_after: int | None = None


class LoanOutcomes(Answer):
    loans: list[LoanOutcome]


class EndedLoan(Answer):
    """`code` says why it would not be lent any more, `detail` is a sentence for the user."""

    id: str
    credential_id: str
    code: Annotated[str, Field(examples=["consent-required"])]
    detail: str


class EndedLoans(Answer):
    ended: list[EndedLoan]


class ErasureDue(Answer):
    """`final`: no token of the user is left, so that the project can confirm that it is done."""

    user_id: str
    username: str
    asked_at: datetime
    final: bool


class DueErasures(Answer):
    erasures: list[ErasureDue]


Count = Annotated[int, Field(ge=0, le=10**12, strict=True)]
RecordId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]


class UsageRecord(Body):
    """One request to a provider. `id` is the project's own name for it. null is unknown."""

    id: RecordId
    lease_id: Id
    credential_id: Id
    model: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
    prompt_tokens: Count | None
    completion_tokens: Count | None
    cost_usd: Amount | None
    at: AwareDatetime


class UsageBody(Body):
    records: Annotated[list[UsageRecord], Field(min_length=1, max_length=100)]


class UsageReported(Answer):
    """`repeated` were counted before; `unknown` are the ids of those that name no such loan."""

    counted: int
    repeated: int
    unknown: list[str]


class UsageLine(Answer):
    """`costUsd` is the sum of what is known; `unpricedRequests` are those of unknown cost."""

    key: Annotated[str, Field(description="The day, or what the group is called by its id.")]
    label: Annotated[str | None, Field(description="Of a credential that you can see.")]
    requests: int
    unpriced_requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float


class UsageAnswer(Answer):
    group: Literal["day", "credential", "project", "model"]
    usage: list[UsageLine]


class ChosenCredential(Answer):
    """`sharedBy` is the user who shares it, null for an own one."""

    id: str
    label: str
    credential_type: str
    shared_by: str | None


class WhichAnswer(Answer):
    """Either `credential` and `reason`, or the `code` of the refusal."""

    project_id: str
    credential: ChosenCredential | None
    reason: Literal["project", "all-projects", "shared"] | None
    code: str | None
    sentence: str


class TestAnswer(Answer):
    __test__ = False

    status: Annotated[
        Literal["ok", "rejected", "rate_limited", "unreachable", "refused", "error", "untested"],
        Field(description="`untested`: this type has nobody to ask."),
    ]
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


class AuditEntryView(Answer):
    """One row of the audit log. Names are there where the id is that of a user."""

    at: datetime
    stream: str
    seq: int
    action: str
    actor_id: str | None
    actor_name: str | None
    owner_id: str | None
    owner_name: str | None
    subject_id: str | None
    project_id: str | None
    lease_id: str | None
    run_id: str | None
    request_id: str | None
    outcome: str
    details: dict[str, Any]


class AuditList(Answer):
    entries: list[AuditEntryView]
    next_cursor: str | None


class FieldProblem(BaseModel):
    field: str
    detail: str


class FailedTest(BaseModel):
    status: str


class Problem(BaseModel):
    """RFC 9457 problem details. `code` is stable; docs/api.md lists all codes.

    `errors` comes with 422, `error` with the codes of OAuth, `test` with `test-failed`,
    `budget` with `budget-exceeded`.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldProblem] | None = None
    error: str | None = None
    test: FailedTest | None = None
    budget: BudgetState | None = None
