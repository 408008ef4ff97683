"""Borrows the user's key from Papita, anew for each answer, and asks which loans have ended.

The user token is exchanged for one that reads one credential (RFC 8693); that project token is kept
for its life, the key it opens is not. Loans that are asked for in the same moment go in one
request; each is granted or refused by itself. Every failure has its own `RunError`.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

from alchat_core import logs, telemetry
from alchat_core.auth import User
from alchat_core.errors import RunError
from alchat_core.papita import PapitaAnswer, PapitaCallError, PapitaClient
from alchat_core.secret import Secret
from alchat_core.settings import (
    CREDENTIAL_TYPE,
    PROJECT_ID,
    TOOL_CREDENTIAL_TYPE,
    Settings,
)

DEFAULT_BASE_URL = "https://api.openai.com/v1"
GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a type, not a token
CHECK_PATH = "/api/leases/check"
CHECK_SECONDS = 5.0
USAGE_PATH = "/api/usage"
ERASURES_PATH = "/api/erasures"
LOANS_PATH = "/api/loans"
MAX_CHECKED = 500
LOANS_AT_ONCE = 64
# So long loans wait for others while some are asked for already: those are on their way about as
# long, and what comes after them finds Papita at work.
GATHER_SECONDS = 0.004
# So long a Papita that does not know how to lend several at once is asked for each alone.
ALONE_SECONDS = 300.0
MAX_TOKENS = 1000

NO_BASE_URL = (
    "Your key has no base URL, so AL-Chat does not know whom to ask."
    " Add one under Credentials, then try again."
)
UNREADABLE = "Papita can no longer read your key. Replace it under Credentials, then try again."


@dataclass(frozen=True, slots=True)
class Loan:
    """A borrowed credential, for one answer or one list of models.

    `api_key` is None where the provider asks for none, as a local server may. `credential_type` is
    what it really is: any type that speaks the OpenAI protocol. `budget` is as in `run.budget`.
    """

    credential_id: str
    credential_type: str
    lease_id: str
    base_url: str
    api_key: Secret | None = field(repr=False)
    organization: str | None = field(default=None, repr=False)
    project: str | None = field(default=None, repr=False)
    expires_at: float = math.inf
    deadline: float = math.inf
    budget: dict[str, Any] | None = None

    @property
    def live(self) -> bool:
        """Whether the lease still runs, by the wall clock and by the monotonic one."""
        return self.expires_at > time.time() and self.deadline > time.monotonic()


@dataclass(frozen=True, slots=True)
class Ended:
    """A loan that would not be granted any more. `code` is Papita's word for why."""

    lease_id: str
    credential_id: str
    code: str


@dataclass(frozen=True, slots=True)
class DueErasure:
    """A user who was deleted in Papita. `final`: it may be confirmed that nothing is left."""

    user_id: str
    username: str
    final: bool


@dataclass(frozen=True, slots=True)
class _ProjectToken:
    """`expires_at` in seconds since 1970, `deadline` by the monotonic clock."""

    value: Secret
    expires_at: float
    deadline: float

    @property
    def live(self) -> bool:
        # Both clocks must agree that it still runs: the wall clock may step back.
        return self.expires_at > time.time() and self.deadline > time.monotonic()


@dataclass(frozen=True, slots=True)
class _Asked:
    """A loan that is waited for; None means that it has to be asked for alone."""

    loan: dict[str, str] = field(repr=False)
    answer: asyncio.Future[PapitaAnswer | None]


# User, sign-in or access token, and what was asked for.
_Place = tuple[str, str, str]


class CredentialManager:
    """Built once per process."""

    def __init__(self, settings: Settings, papita: PapitaClient) -> None:
        self._papita = papita
        self._client_id = settings.alchat_client_id
        given = settings.alchat_client_secret
        self._client_secret = Secret(given.get_secret_value()) if given else None
        self._client_secret_path = settings.client_secret_path
        self._tokens: OrderedDict[_Place, _ProjectToken] = OrderedDict()
        self._pending: dict[_Place, asyncio.Task[_ProjectToken]] = {}
        self._asked: list[_Asked] = []
        self._together: set[asyncio.Task[None]] = set()
        self._alone_until = 0.0
        self._lending = 0

    async def borrow(self, user: User, run_id: str | None = None) -> Loan:
        """The user's key, on Papita's record as read for `run_id`. Raises `RunError`."""
        return await self._loan(user, CREDENTIAL_TYPE, run_id)

    async def borrow_for(self, user: User, url: str, run_id: str | None = None) -> Loan:
        """The user's token for the tool server at this URL alone. Raises `RunError`."""
        loan = await self._loan(user, TOOL_CREDENTIAL_TYPE, run_id, url, "token")
        if loan.api_key is None or loan.base_url != url.rstrip("/"):
            raise RunError("papita-error")
        return loan

    async def _loan(
        self, user: User, asked: str, run_id: str | None, url: str | None = None, name: str = ""
    ) -> Loan:
        with telemetry.span("loan", {"alchat.run.id": run_id}) as span:
            answer = await self._borrowed(user, asked, run_id, url)
            loan = _read(answer, name) if name else _read(answer)
            span.add("alchat.lease.id", loan.lease_id)
            span.add("alchat.credential.id", loan.credential_id)
            span.add("alchat.credential.type", loan.credential_type)
            return loan

    async def _borrowed(
        self, user: User, asked: str, run_id: str | None, url: str | None
    ) -> PapitaAnswer:
        place = (user.id, user.ground_id, asked)
        token = self._tokens.get(place)
        if token is not None and token.live:
            answer = await self._lend(user, token, asked, run_id, url)
            if answer.status not in (401, 403):
                return answer
            # The row behind the token may have ended while a new one would be granted: the user
            # has taken the permission back and given it again, say.
            if self._tokens.get(place) is token:
                del self._tokens[place]
        token = await self._exchanged(place, user)
        return await self._lend(user, token, asked, run_id, url)

    async def ended(self, loans: Sequence[tuple[str, str]]) -> list[Ended]:
        """Those of the (lease id, credential id) pairs, 500 at most, that have ended.

        Raises `PapitaCallError` if Papita does not say.
        """
        try:
            client = self._client()
        except RunError:
            raise PapitaCallError(reached=False) from None
        answer = await self._papita.request(
            "POST",
            CHECK_PATH,
            within=CHECK_SECONDS,
            headers=client,
            json={"leases": [{"id": lease, "credentialId": one} for lease, one in loans]},
        )
        listed = answer.body.get("ended")
        if answer.status != 200 or not isinstance(listed, list):
            raise PapitaCallError(reached=True)
        try:
            return [Ended(item["id"], item["credentialId"], item["code"]) for item in listed]
        except (KeyError, TypeError):
            raise PapitaCallError(reached=True) from None

    async def report(self, records: Sequence[dict[str, Any]]) -> PapitaAnswer:
        """Tells Papita what was spent with its loans. Raises `PapitaCallError` and `RunError`."""
        return await self._papita.request(
            "POST", USAGE_PATH, headers=self._client(), json={"records": list(records)}
        )

    async def erasures(self) -> list[DueErasure]:
        """The deleted users whose data is still to be deleted here.

        Raises `PapitaCallError` and `RunError`.
        """
        answer = await self._papita.request("GET", ERASURES_PATH, headers=self._client())
        listed = answer.body.get("erasures")
        if answer.status != 200 or not isinstance(listed, list):
            raise PapitaCallError(reached=True)
        try:
            return [
                DueErasure(item["userId"], item["username"], item["final"] is True)
                for item in listed
            ]
        except (KeyError, TypeError):
            raise PapitaCallError(reached=True) from None

    async def confirm_erasure(self, user_id: str) -> None:
        """Raises `PapitaCallError` and `RunError`."""
        path = f"{ERASURES_PATH}/{quote(user_id, safe='')}"
        answer = await self._papita.request("DELETE", path, headers=self._client())
        # Another AL-Chat on the same database may have said so before.
        if answer.status not in (204, 404):
            raise PapitaCallError(reached=True)

    async def _exchanged(self, place: _Place, user: User) -> _ProjectToken:
        """A new project token; those who wait for the same one share one exchange."""
        task = self._pending.get(place)
        if task is None:
            task = asyncio.create_task(self._exchange_and_keep(place, user))
            self._pending[place] = task
            task.add_done_callback(lambda _done: self._pending.pop(place, None))
        return await asyncio.shield(task)

    async def _exchange_and_keep(self, place: _Place, user: User) -> _ProjectToken:
        token = await self._exchange(user, place[2])
        self._tokens[place] = token
        while len(self._tokens) > MAX_TOKENS:
            self._tokens.popitem(last=False)
        return token

    async def _exchange(self, user: User, asked: str) -> _ProjectToken:
        begin, wall = time.monotonic(), time.time()
        answer = await self._request(
            "POST",
            "/api/token",
            headers=self._client(),
            data={
                "grant_type": GRANT_TYPE,
                "subject_token": user.token.reveal(),
                "subject_token_type": ACCESS_TOKEN,
                "scope": "credential:use",
                "credential_type": asked,
            },
        )
        _check(answer)
        value, life = answer.body.get("access_token"), answer.body.get("expires_in")
        if not isinstance(value, str) or not value or not isinstance(life, int | float):
            raise RunError("papita-error")
        return _ProjectToken(Secret(value), wall + life, begin + life)

    async def _lend(
        self, user: User, token: _ProjectToken, asked: str, run_id: str | None, url: str | None
    ) -> PapitaAnswer:
        wanted = {
            "username": user.username,
            "credentialType": asked,
            "projectId": PROJECT_ID,
        }
        if run_id is not None:
            wanted["runId"] = run_id
        if url is not None:
            wanted["baseUrl"] = url
        answer = await self._with_others(token, wanted)
        if answer is not None:
            return answer
        self._lending += 1
        try:
            return await self._request(
                "GET",
                "/api/credentials",
                params=wanted,
                headers={"Authorization": f"Bearer {token.value.reveal()}"},
            )
        finally:
            self._lending -= 1

    async def _with_others(
        self, token: _ProjectToken, wanted: dict[str, str]
    ) -> PapitaAnswer | None:
        """The answer to this one of the loans that are asked for in this moment. None if there is
        no other, or they cannot be asked for together.
        """
        # A trace wants each loan under its own run.
        if telemetry.on() or time.monotonic() < self._alone_until:
            return None
        loan = {"token": token.value.reveal(), **wanted}
        del loan["projectId"]
        if (request_id := logs.request_id()) is not None:
            loan["requestId"] = request_id
        loop = asyncio.get_running_loop()
        asked = _Asked(loan, loop.create_future())
        self._asked.append(asked)
        if len(self._asked) == 1:
            if self._lending:
                loop.call_later(GATHER_SECONDS, self._go)
            else:
                # Those that are ready to run now get in as well.
                loop.call_soon(self._go)
        return await asked.answer

    def _go(self) -> None:
        asked, self._asked = self._asked, []
        for start in range(0, len(asked), LOANS_AT_ONCE):
            some = asked[start : start + LOANS_AT_ONCE]
            if len(some) == 1:
                _tell(some[0], None)
                continue
            # In a context of its own: it is made for many requests.
            task = asyncio.create_task(
                self._lend_several(some), name="loans", context=contextvars.Context()
            )
            self._together.add(task)
            task.add_done_callback(self._together.discard)

    async def _lend_several(self, asked: list[_Asked]) -> None:
        answers: list[PapitaAnswer | None] = [None] * len(asked)
        self._lending += 1
        try:
            answer = await self._papita.request(
                "POST",
                LOANS_PATH,
                headers=self._client(),
                json={"loans": [one.loan for one in asked]},
            )
            found = answer.body.get("loans") if answer.status == 200 else None
            if answer.status in (404, 405):
                self._alone_until = time.monotonic() + ALONE_SECONDS
            if isinstance(found, list) and len(found) == len(asked):
                answers = [_outcome(one) for one in found]
        except (PapitaCallError, RunError):
            # Each asks again by itself, and finds out why.
            pass
        finally:
            self._lending -= 1
            for one, its in zip(asked, answers, strict=True):
                _tell(one, its)

    async def _request(self, method: str, path: str, **arguments: Any) -> PapitaAnswer:
        about = {"http.request.method": method, "url.path": path}
        with telemetry.span(f"{method} {path}", about, kind="client") as span:
            arguments["headers"] = {**arguments.get("headers", {}), **telemetry.passed_on()}
            try:
                answer = await self._papita.request(method, path, **arguments)
            except PapitaCallError as error:
                raise RunError("papita-error" if error.reached else "papita-unreachable") from None
            span.add("http.response.status_code", answer.status)
            return answer

    def _client(self) -> dict[str, str]:
        """AL-Chat's own id and secret, for HTTP Basic."""
        secret = self._client_secret
        value = secret.reveal() if secret is not None else _read_file(self._client_secret_path)
        known = aiohttp.encode_basic_auth(quote(self._client_id, safe=""), quote(value, safe=""))
        return {"Authorization": known}


def _tell(asked: _Asked, answer: PapitaAnswer | None) -> None:
    if not asked.answer.done():
        asked.answer.set_result(answer)


def _outcome(found: object) -> PapitaAnswer | None:
    """One of several loans, in the form that it has alone."""
    if not isinstance(found, dict) or type(status := found.get("status")) is not int:
        return None
    body = found.get("loan" if status == 200 else "problem")
    if not isinstance(body, dict):
        return None
    wait = found.get("retryAfter")
    return PapitaAnswer(status, body, min(wait, 86_400) if type(wait) is int else None)


def _read_file(path: Path) -> str:
    try:
        value = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        value = ""
    if not value:
        raise RunError(
            "papita-error",
            "AL-Chat has no client secret for Papita."
            " An administrator has to set ALCHAT_CLIENT_SECRET or ALCHAT_CLIENT_SECRET_FILE.",
            retryable=False,
        )
    return value


# Papita's word for a refusal, and what the user is told.
_REFUSALS = {
    "consent-required": "consent-required",
    "credential-not-found": "credential-missing",
    "credential-expired": "credential-expired",
    "credential-disabled": "credential-disabled",
    "project-disabled": "project-disabled",
    "session-ended": "session-ended",
    "unauthenticated": "session-ended",
}


def _check(answer: PapitaAnswer) -> None:
    """Raises the `RunError` that a refusal of Papita stands for."""
    if answer.status == 200:
        return
    code = answer.body.get("code")
    oauth = answer.body.get("error")
    if code in _REFUSALS:
        raise RunError(_REFUSALS[code])
    if code == "budget-exceeded":
        raise _budget_exceeded(_budget(answer.body.get("budget")))
    if code == "vault-sealed":
        raise RunError("vault-sealed", retry_after=answer.retry_after)
    if code == "secret-unreadable":
        raise RunError("credential-rejected", UNREADABLE)
    if answer.status == 429:
        raise RunError(
            "rate-limited",
            "Papita has lent your key too often in a short time. Wait a moment and try again.",
            retry_after=answer.retry_after,
        )
    if code == "invalid-client" or oauth == "invalid_client":
        raise RunError(
            "papita-error",
            "Papita does not accept AL-Chat's client secret. An administrator has to give both"
            " the same ALCHAT_CLIENT_SECRET.",
            retryable=False,
        )
    if oauth == "invalid_grant" or answer.status == 401:
        raise RunError("session-ended")
    raise RunError("papita-error", retry_after=answer.retry_after)


def _read(answer: PapitaAnswer, key_field: str = "api_key") -> Loan:
    """The loan of an answer. Raises `RunError`."""
    _check(answer)
    try:
        credential, lease = answer.body["credentials"], answer.body["lease"]["id"]
        expires_at = _moment(answer.body["lease"].get("expiresAt"))
        identity, kind = credential["id"], credential["credentialType"]
        base_url, fields = credential.get("baseUrl"), credential["credentials"]
        key, organization, project = (
            fields.get(name) or None for name in (key_field, "organization", "project")
        )
        if not all(isinstance(text, str) and text for text in (identity, kind, lease)):
            raise ValueError
        if not all(
            text is None or isinstance(text, str) for text in (base_url, key, organization, project)
        ):
            raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError):
        raise RunError("papita-error") from None
    if not base_url:
        if kind != CREDENTIAL_TYPE:
            raise RunError("bad-request", NO_BASE_URL)
        base_url = DEFAULT_BASE_URL
    if not all(_fits_a_header(text) for text in (key, organization, project)):
        raise RunError("credential-rejected")
    return Loan(
        identity,
        kind,
        lease,
        base_url.rstrip("/"),
        Secret(key) if key else None,
        organization,
        project,
        expires_at,
        time.monotonic() + max(0.0, expires_at - time.time()),
        _budget(answer.body.get("budget")),
    )


def _budget(value: object) -> dict[str, Any] | None:
    """Where the budget of a credential stands, as users get to see it; None for anything else."""
    if not isinstance(value, dict) or value.get("period") not in ("day", "month"):
        return None
    amounts = [value.get("limitUsd"), value.get("spentUsd")]
    try:
        anew = _moment(value["beginsAnewAt"])
        limit, spent = (float(amount) for amount in amounts if type(amount) in (int, float))  # type: ignore[arg-type]
        if not (math.isfinite(anew) and math.isfinite(limit) and math.isfinite(spent)):
            return None
        begins = datetime.fromtimestamp(anew, UTC).isoformat().replace("+00:00", "Z")
    except (KeyError, ValueError, OverflowError, OSError):
        return None
    return {
        "limitUsd": limit,
        "spentUsd": spent,
        "period": value["period"],
        "warning": value.get("warning") is True,
        "beginsAnewAt": begins,
    }


def _budget_exceeded(budget: dict[str, Any] | None) -> RunError:
    if budget is None:
        return RunError("budget-exceeded")
    anew = datetime.fromisoformat(budget["beginsAnewAt"])
    which = "today" if budget["period"] == "day" else "this month"
    return RunError(
        "budget-exceeded",
        f"The budget of your key is used up: ${budget['spentUsd']:,.2f} of"
        f" ${budget['limitUsd']:,.2f} {which}. It begins anew on {anew.day} {anew:%B %Y}, 00:00"
        " UTC. Until then raise it under Credentials or add another key, or ask whoever shares"
        " the key with you.",
        retry_after=max(1, math.ceil(anew.timestamp() - time.time())),
    )


def _moment(value: object) -> float:
    """RFC 3339 as seconds since 1970; a lease that names no end has none. Raises ValueError."""
    return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else math.inf


def _fits_a_header(text: str | None) -> bool:
    return text is None or (text.isascii() and text.isprintable() and " " not in text)
