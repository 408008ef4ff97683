"""Calls about answers: ask, follow, stop, go on."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from alchat_core.client.calls import Calls, given, segment
from alchat_core.client.conversations import NewConversation, new_conversation
from alchat_core.client.errors import AlChatError
from alchat_core.client.followers import Follower
from alchat_core.client.reading import run_of
from alchat_core.client.values import Begun, Model, Models, Run, Sent


class AnswerCalls(Calls):
    def models(self) -> tuple[str, ...]:
        """Names of the models, the default first."""
        return tuple(model.id for model in self.model_list())

    def model_list(self) -> Models:
        """The models with what they cost, the default first."""
        found = self._call("GET", "/api/models")
        return Models(
            tuple(
                Model(item["id"], item["inputUsd"], item["outputUsd"], item["contextWindow"])
                for item in found["models"]
            ),
            found.get("transcribes"),
        )

    def send(
        self,
        conversation_id: str,
        content: str,
        model: str | None = None,
        parent_id: str | None = None,
        idempotency_key: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        *,
        first: bool = False,
        attachments: Sequence[str] = (),
    ) -> Sent:
        """Stores the message and starts the answer.

        It follows the answer `parent_id`, or none if it is the `first`; without either, the end of
        the active branch. `attachments` are ids of files.
        """
        body = _message(content, model, attachments, parent_id=parent_id, parameters=parameters)
        if first:
            body["parentId"] = None
        return self._start(_messages(conversation_id), body, idempotency_key)

    def begin(
        self,
        content: str,
        model: str | None = None,
        idempotency_key: str | None = None,
        *,
        attachments: Sequence[str] = (),
        title: str | None = None,
        **conversation: Unpack[NewConversation],
    ) -> Begun:
        """Makes a conversation and sends its first message, with one wait for both.

        `title` and `conversation` are what `create_conversation` takes. Raises what that raises; if
        the message is not taken after that, its `taken` does.
        """
        client, token = self._client, self._token_source()
        message = _message(content, model, attachments)

        async def both() -> Begun:
            made = await client.ask(
                "POST", "/api/conversations", token, body=new_conversation(title, conversation)
            )
            try:
                found = await client.ask(
                    "POST",
                    _messages(made["id"]),
                    token,
                    body=message,
                    headers=_with_key(idempotency_key),
                )
            except AlChatError as error:
                return Begun(made["id"], error)
            return Begun(made["id"], _sent(found))

        return client.wait_for(both())

    def mark_read(self, run_id: str) -> None:
        """The user has read the answer of that run; its conversation is not `unread` any more."""
        self._call("POST", f"/api/runs/{segment(run_id)}/read")

    def retry(
        self,
        user_message_id: str,
        model: str | None = None,
        idempotency_key: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        *,
        beside: bool = False,
    ) -> Sent:
        """One more answer to a message of the user.

        `beside`: to be compared with the answer that ends the active branch, which it leaves where
        it is; at most four are written at a time.
        """
        return self._start(
            f"/api/messages/{segment(user_message_id)}/runs",
            given(model=model, parameters=parameters, beside=beside or None),
            idempotency_key,
        )

    def go_on(
        self,
        message_id: str,
        model: str | None = None,
        idempotency_key: str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Sent:
        """Continues an answer that was broken off; the events of the run have the new text only."""
        return self._start(
            f"/api/messages/{segment(message_id)}/continue",
            given(model=model, parameters=parameters),
            idempotency_key,
        )

    def run(self, run_id: str) -> Run:
        return run_of(self._call("GET", f"/api/runs/{segment(run_id)}"))

    def cancel(self, run_id: str) -> Run:
        """Returns when the run and the provider's stream have ended."""
        return run_of(self._call("POST", f"/api/runs/{segment(run_id)}/cancel"))

    def follow(self, run_id: str, after: int = 0) -> Follower:
        """The events of a run with a higher number than `after`; use it in a `with` block."""
        return self._client.followers.follow(segment(run_id), after, self._token_source)

    def _start(self, path: str, body: dict[str, Any], idempotency_key: str | None) -> Sent:
        return _sent(self._call("POST", path, body=body, headers=_with_key(idempotency_key)))


def _messages(conversation_id: str) -> str:
    return f"/api/conversations/{segment(conversation_id)}/messages"


def _message(
    content: str, model: str | None, attachments: Sequence[str], **more: Any
) -> dict[str, Any]:
    body = given(content=content, model=model, **more)
    if attachments:
        body["attachments"] = list(attachments)
    return body


def _with_key(idempotency_key: str | None) -> dict[str, str]:
    """What starts an answer has a key, of the caller's own or a new one."""
    return {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}


def _sent(found: Mapping[str, Any]) -> Sent:
    return Sent(found["messageId"], found["runId"], found["userMessageId"])
