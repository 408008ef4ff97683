"""Calls about prompts and assistants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from alchat_core.client.calls import KEEP, Calls, Keep, changed, chosen, given, segment
from alchat_core.client.reading import assistant_of
from alchat_core.client.values import Assistant, Page

Kind = Literal["prompt", "assistant"]


class AssistantCalls(Calls):
    def assistants(
        self, kind: Kind | None = None, cursor: str | None = None, limit: int = 50
    ) -> Page[Assistant]:
        """The user's own and those that others share, the newest first."""
        params = {"kind": kind, "cursor": cursor, "limit": limit}
        found = self._call("GET", "/api/assistants", params=params)
        return Page(tuple(assistant_of(item) for item in found["assistants"]), found["nextCursor"])

    def assistant(self, assistant_id: str) -> Assistant:
        return assistant_of(self._call("GET", f"/api/assistants/{segment(assistant_id)}"))

    def create_assistant(
        self,
        name: str,
        prompt: str,
        *,
        kind: Kind = "assistant",
        model: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        shared: bool = False,
        files: Sequence[str] = (),
        tools: Sequence[str] = (),
    ) -> Assistant:
        """`shared`: every user of the portal can read it and begin conversations with it.

        `files` are ids of files with text; a model reads them, whoever uses the assistant. `tools`
        are ids of tool servers.
        """
        body = given(
            name=name,
            prompt=prompt,
            kind=kind,
            model=model,
            parameters=chosen(parameters),
            shared=shared,
            files=list(files) or None,
            tools=list(tools) or None,
        )
        return assistant_of(self._call("POST", "/api/assistants", body=body))

    def update_assistant(
        self,
        assistant_id: str,
        *,
        name: str | None = None,
        prompt: str | None = None,
        kind: Kind | None = None,
        shared: bool | None = None,
        files: Sequence[str] | None = None,
        tools: Sequence[str] | None = None,
        model: str | Keep | None = KEEP,
        parameters: Mapping[str, Any] | Keep | None = KEEP,
    ) -> Assistant:
        """What is not given stays as it is; None takes model and parameters away.

        `files` and `tools` are all that it has from then on.
        """
        body = given(
            name=name,
            prompt=prompt,
            kind=kind,
            shared=shared,
            files=None if files is None else list(files),
            tools=None if tools is None else list(tools),
        ) | changed(model=model, parameters=chosen(parameters))
        return assistant_of(
            self._call("PATCH", f"/api/assistants/{segment(assistant_id)}", body=body)
        )

    def delete_assistant(self, assistant_id: str) -> None:
        """Conversations that began with it stay as they are, without its files."""
        self._call("DELETE", f"/api/assistants/{segment(assistant_id)}")
