"""What this tab has chosen for the next conversation, and what there is to choose from."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import streamlit as st

from alchat_core.client import Assistant, Model, Models
from portal.session import remembered


@dataclass(slots=True)
class Choices:
    """Goes into the conversation that the first message makes. `others` are the models that answer
    each message beside the chosen one, until that is ended. `number` counts the chats that were
    begun or opened.
    """

    system_prompt: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[str, ...] = ()
    assistant_id: str | None = None
    assistant_name: str = ""
    others: tuple[str, ...] = ()
    number: int = 0

    @property
    def temporary(self) -> str:
        """The switch. That of each new chat is another one: while an answer is followed the script
        does not end, and only an ended script would forget that it is on.
        """
        return f"al_chat_temporary_{self.number}"

    def of_new(self) -> dict[str, Any]:
        """The arguments with which a conversation is made."""
        found: dict[str, Any] = {}
        if self.system_prompt:
            found["system_prompt"] = self.system_prompt
        if self.parameters:
            found["parameters"] = dict(self.parameters)
        if self.tools:
            found["tools"] = self.tools
        if self.assistant_id:
            found["assistant_id"] = self.assistant_id
        # The switch itself: whoever sends at once is not ahead of it.
        if st.session_state.get(self.temporary):
            found["temporary"] = True
        return found

    def begin_anew(self) -> None:
        """Another chat is opened or begun."""
        self.number += 1
        self.reset()

    def reset(self) -> None:
        self.system_prompt = None
        self.parameters = {}
        self.tools = ()
        self.assistant_id = None
        self.assistant_name = ""


def choices() -> Choices:
    return remembered(Choices)


@dataclass(slots=True)
class Prices:
    """What is known of the models that this tab has heard of."""

    # What AL-Chat last told anybody of itself: the guess of a tab that has not asked yet.
    last_told: ClassVar[bool] = False

    models: Mapping[str, Model] = field(default_factory=dict)
    transcribes: bool = field(default_factory=lambda: Prices.last_told)

    def put(self, found: Models) -> None:
        self.models = {model.id: model for model in found}
        self.transcribes = Prices.last_told = found.transcribes is not None


SHELF_SECONDS = 300.0


@dataclass(slots=True)
class Shelf:
    """The prompts and assistants that this tab knows of, asked for now and then."""

    items: tuple[Assistant, ...] = ()
    until: float = 0.0

    @property
    def stale(self) -> bool:
        return time.monotonic() > self.until

    def put(self, items: tuple[Assistant, ...]) -> None:
        self.items = items
        self.until = time.monotonic() + SHELF_SECONDS

    def named(self, assistant_id: str) -> Assistant | None:
        return next((item for item in self.items if item.id == assistant_id), None)


def shelf() -> Shelf:
    return remembered(Shelf)


def offered() -> list[dict[str, str]]:
    """What the input offers at a `/`: of an assistant the name, of a prompt the text as well."""
    return [
        {
            "id": item.id,
            "name": item.name,
            "kind": item.kind,
            "prompt": item.prompt if item.kind == "prompt" else "",
        }
        for item in sorted(shelf().items, key=lambda item: item.name.casefold())
    ]
