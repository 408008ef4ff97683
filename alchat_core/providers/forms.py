"""In which form a provider is asked: chat completions, or the Responses API.

Chat completions are the common ground. The Responses API is asked at origins that are known to have
it, and for a model of which the provider has said that there is no other way; the other way round,
too. Such an answer is remembered in this process, so that it costs one request and not one each
time; nothing is asked only to find out.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from alchat_core.credential_manager import Loan
from alchat_core.providers.lines import StreamReader
from alchat_core.providers.parameters import THEIRS, parameter_refused, thinks
from alchat_core.providers.responses import PATH as RESPONSES
from alchat_core.providers.responses import ResponseReader, body_of, missing
from alchat_core.settings import origin_of

CHAT: Final = "/chat/completions"
MAX_REMEMBERED = 1000

# In the words of OpenAI, of gateways before it, and of Azure.
_ONLY_RESPONSES = re.compile(
    r"\b(only|use)\b.{0,60}\bresponses\b|chatcompletion operation does not work"
)
_NOT_FOR_CHAT: Final = "unsupported_api_for_model"
_ONLY_CHAT = re.compile(r"not support.{0,60}\bresponses\b")
_NO_SUCH_PATH = frozenset({404, 405, 501})
_WRONG = frozenset({400, 404, 422})


class Refusal(NamedTuple):
    """What a provider says when it takes a request not at all; `message` is in small letters."""

    status: int
    code: str
    kind: str
    param: str
    message: str


class Forms:
    """What is known of the providers of this process."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origins)
        # Whether the Responses API is the only way to ask a model, or chat completions are.
        self._models: dict[Hashable, bool] = {}
        self._without_usage: dict[Hashable, bool] = {}
        self._without_summary: dict[Hashable, bool] = {}

    def question(
        self,
        loan: Loan,
        base_url: str,
        model: str,
        messages: Sequence[dict[str, Any]],
        parameters: Mapping[str, Any],
    ) -> Question:
        """Raises `RunError` where a parameter does not go with the only way there is."""
        return Question(self, loan, base_url, model, messages, parameters)

    def has_responses(self, base_url: str, model: str, parameters: Mapping[str, Any]) -> bool:
        known = self._models.get((base_url, model))
        if known is not None:
            return known
        return origin_of(base_url) in self._origins and missing(parameters) is None

    def remember(self, base_url: str, model: str, responses: bool) -> None:
        _remember(self._models, (base_url, model), responses)

    def reports_usage(self, base_url: str) -> bool:
        return base_url not in self._without_usage

    def rejected_usage(self, base_url: str) -> None:
        _remember(self._without_usage, base_url, True)

    def summarises(self, loan: Loan, base_url: str, model: str) -> bool:
        """Whether a summary of the thoughts is asked for. OpenAI makes them for models that think,
        and shows them to organizations that have shown who they are.
        """
        return thinks(model) and (base_url, model, loan.credential_id) not in self._without_summary

    def refused_summary(self, loan: Loan, base_url: str, model: str) -> None:
        _remember(self._without_summary, (base_url, model, loan.credential_id), True)


class Question:
    """One request: `path` below the base URL, `body`, and the `reader` of what comes back.

    After a refusal that names what is wrong it may be asked `again`, in other words.
    """

    path: str
    body: dict[str, Any]
    reader: StreamReader

    def __init__(
        self,
        forms: Forms,
        loan: Loan,
        base_url: str,
        model: str,
        messages: Sequence[dict[str, Any]],
        parameters: Mapping[str, Any],
    ) -> None:
        self._forms = forms
        self._loan = loan
        self._base_url = base_url
        self._model = model
        self._messages = messages
        self._parameters = parameters
        self._turned = False
        self._put(responses=forms.has_responses(base_url, model, parameters))

    def again(self, refusal: Refusal) -> bool:
        """Whether something was changed so that it is worth asking once more. Raises `RunError`."""
        responses = self.path == RESPONSES
        if not self._turned and (_only_chat if responses else _only_responses)(refusal):
            self._turned = True
            self._put(responses=not responses)
            return True
        return self._without_summary(refusal) if responses else self._otherwise(refusal)

    def taken(self) -> None:
        """The provider answers: what was learnt on the way holds."""
        if self._turned:
            self._forms.remember(self._base_url, self._model, self.path == RESPONSES)

    def _put(self, *, responses: bool) -> None:
        if responses:
            if (name := missing(self._parameters)) is not None:
                raise parameter_refused(THEIRS[name])
            summary = self._forms.summarises(self._loan, self._base_url, self._model)
            self.path, self.reader = RESPONSES, ResponseReader()
            self.body = body_of(self._model, self._messages, self._parameters, summary=summary)
            return
        self.path, self.reader = CHAT, StreamReader()
        self.body = {
            "model": self._model,
            "messages": self._messages,
            "stream": True,
            **self._parameters,
        }
        if self._forms.reports_usage(self._base_url):
            self.body["stream_options"] = {"include_usage": True}

    def _without_summary(self, refusal: Refusal) -> bool:
        reasoning = self.body.get("reasoning", {})
        if "summary" not in reasoning or refusal.status not in _WRONG:
            return False
        if not refusal.param.startswith("reasoning.summary") and not re.search(
            r"reasoning.{0,20}summar", refusal.message
        ):
            return False
        self._forms.refused_summary(self._loan, self._base_url, self._model)
        del reasoning["summary"]
        if not reasoning:
            del self.body["reasoning"]
        return True

    def _otherwise(self, refusal: Refusal) -> bool:
        if refusal.status not in (400, 422):
            return False
        if "stream_options" in self.body and _rejects_usage(refusal):
            self._forms.rejected_usage(self._base_url)
            del self.body["stream_options"]
        elif "max_tokens" in self.body and _wants_the_other_name(refusal):
            self.body["max_completion_tokens"] = self.body.pop("max_tokens")
        else:
            return False
        return True


def _remember(where: dict[Hashable, bool], what: Hashable, value: bool) -> None:
    where[what] = value
    if len(where) > MAX_REMEMBERED:
        del where[next(iter(where))]


def _only_responses(refusal: Refusal) -> bool:
    return refusal.status in _WRONG and (
        refusal.code == _NOT_FOR_CHAT or bool(_ONLY_RESPONSES.search(refusal.message))
    )


def _only_chat(refusal: Refusal) -> bool:
    if refusal.status in _WRONG and _ONLY_CHAT.search(refusal.message):
        return True
    # Nothing lies at this path; an unknown model would be named.
    return refusal.status in _NO_SUCH_PATH and not (
        refusal.param == "model" or "model" in refusal.code or "model" in refusal.message
    )


def _rejects_usage(refusal: Refusal) -> bool:
    words = f"{refusal.param} {refusal.message}"
    return "stream_options" in words or "include_usage" in refusal.message


def _wants_the_other_name(refusal: Refusal) -> bool:
    return refusal.param == "max_tokens" and "max_completion_tokens" in refusal.message
