"""An answer that is being written, as this tab draws it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from streamlit.delta_generator import DeltaGenerator
from streamlit.elements.lib.mutable_status_container import StatusContainer

from alchat_core.client import Event, Message, Source, ToolCall
from portal.blocks import BlockSplitter
from portal.chat.answer import parts, show_block
from portal.chat.reasoning import thought_label
from portal.chat.tool_steps import LiveSteps
from portal.session import Following
from portal.texts import t

FRAME_SECONDS = 0.05
# Thoughts are folded away: who opens them reads more slowly than that.
THOUGHTS_SECONDS = 0.25
# So many characters are there without delay, however many others are writing.
FIRST_WORDS = 20
# A block that has grown long is redrawn less often, so that its bytes stay in bounds.
BYTES_PER_SECOND = 120_000

# Where, what, and whether it is finished.
Draw = Callable[[DeltaGenerator, str, bool], None]


class BlockWriter:
    """Draws growing text into a container: finished blocks once, the last one again and again."""

    def __init__(self, container: DeltaGenerator, draw: Draw) -> None:
        self._container = container
        self._draw = draw
        self._splitter = BlockSplitter()
        self._slot = container.empty()
        self._drawn = ""

    def write(self, text: str) -> None:
        for block in self._splitter.feed(text):
            self._draw(self._slot, block, True)
            self._slot = self._container.empty()
            self._drawn = ""
        if self._splitter.tail != self._drawn:
            self._drawn = self._splitter.tail
            self._draw(self._slot, self._drawn, False)

    @property
    def pause(self) -> float:
        """Seconds until the next drawing is worth its bytes."""
        return len(self._splitter.tail) / BYTES_PER_SECOND

    def hint(self, text: str) -> None:
        """Stands where the next words will."""
        self._slot.markdown(text)

    def no_hint(self) -> None:
        if not self._drawn:
            self._slot.empty()


def begun(message: Message, run_id: str) -> Following:
    """What an answer has before the first event of this run: something if it is continued."""
    # Calls of this very run are kept with the message as well, and come with its events.
    calls = [call for call in message.tool_calls if call.at <= len(message.content)]
    return Following(
        run_id,
        text=message.content,
        thoughts=message.reasoning or "",
        saw_all=False,
        calls=calls,
        sources=message.sources,
    )


class LiveAnswer:
    """Draws what there is of an answer; `take` events as they come, then `draw`."""

    def __init__(self, message: Message, following: Following, container: DeltaGenerator) -> None:
        self._message_id = message.id
        self._state = following
        self._container = container
        self._thoughts_place = container.empty()
        self._status: StatusContainer | None = None
        self._thoughts: BlockWriter | None = None
        self._folded = False
        self._fresh_text = self._fresh_thoughts = ""
        self._thoughts_due = 0.0
        self._writer: BlockWriter | None = None
        self._steps: LiveSteps | None = None
        self._silent = True
        if following.thoughts:
            self._think(following.thoughts)
            if following.thinking_since is None:
                self._fold()
        for part in parts(following.text, following.calls):
            if isinstance(part, str):
                self._write(part)
            else:
                for call in part:
                    self._step(call)
        self._hint(t("Thinking …"))

    @property
    def pause(self) -> float:
        """Seconds until the next drawing is worth its bytes."""
        return max(FRAME_SECONDS, self._writer.pause if self._writer else 0.0)

    @property
    def begun(self) -> bool:
        """Whether its first words are there, or thoughts, which are read more slowly."""
        return len(self._state.text) > FIRST_WORDS or bool(self._state.thoughts)

    def take(self, event: Event) -> None:
        """Keeps what the event says; text and thoughts are drawn by `draw`."""
        state, data = self._state, event.data
        state.last_event = event.id
        if event.type == "text.delta":
            self._end_of_thoughts()
            state.text += data["text"]
            self._fresh_text += data["text"]
        elif event.type == "reasoning.delta":
            if state.thinking_since is None:
                state.thinking_since = time.monotonic()
            state.thoughts += data["text"]
            self._fresh_thoughts += data["text"]
        elif event.type == "run.sources":
            state.sources = tuple(
                Source(one["n"], one["attachmentId"], one["name"], one["page"], one["excerpt"])
                for one in data["sources"]
            )
        elif event.type == "run.retrying":
            self._hint(t("No answer yet, trying again …"))
        elif event.type.startswith("tool.") and "id" in data:
            self._call(event)

    def draw(self) -> bool:
        """Draws what has come since; whether that was anything."""
        something = bool(self._fresh_text or self._fresh_thoughts)
        if self._fresh_thoughts and (self._fresh_text or time.monotonic() >= self._thoughts_due):
            self._think(self._fresh_thoughts)
            self._fresh_thoughts = ""
        if self._fresh_text:
            self._write(self._fresh_text)
            self._fresh_text = ""
        return something

    # --- thoughts ---

    def _think(self, text: str) -> None:
        if self._status is None or self._thoughts is None:
            if self._writer is not None and self._silent:
                self._writer.no_hint()
            self._status = self._thoughts_place.status(
                f":shimmer[{t('Thinking …')}]", type="compact"
            )
            self._thoughts = BlockWriter(self._status, _draw_plainly)
        elif self._folded:
            self._status.update(label=f":shimmer[{t('Thinking …')}]", state="running")
        self._folded = False
        self._thoughts.write(text)
        self._thoughts_due = time.monotonic() + max(THOUGHTS_SECONDS, self._thoughts.pause)

    def _end_of_thoughts(self) -> None:
        state = self._state
        if state.thinking_since is None:
            return
        took = time.monotonic() - state.thinking_since
        state.thinking_since = None
        if state.saw_all:
            state.thought_seconds = (state.thought_seconds or 0.0) + took
        if self._fresh_thoughts:
            self._think(self._fresh_thoughts)
            self._fresh_thoughts = ""
        self._fold()

    def _fold(self) -> None:
        self._folded = True
        if self._status is not None:
            self._status.update(label=thought_label(self._state.thought_seconds), state="complete")

    # --- text ---

    def _write(self, text: str) -> None:
        if self._writer is None:
            self._writer = BlockWriter(self._container, self._draw_block)
        self._writer.write(text)
        self._steps = None
        self._silent = False

    def _draw_block(self, place: DeltaGenerator, block: str, finished: bool) -> None:
        show_block(block, self._message_id, self._state.sources, place=place, finished=finished)

    def _hint(self, text: str) -> None:
        """Says what is waited for, where nothing else on the page does."""
        state = self._state
        thinks = state.thoughts and state.thinking_since is not None
        if not self._silent or thinks or any(call.content is None for call in state.calls):
            return
        if self._writer is None:
            self._writer = BlockWriter(self._container, self._draw_block)
        self._writer.hint(f":shimmer[{text}]")

    # --- calls of tools ---

    def _call(self, event: Event) -> None:
        state, data = self._state, event.data
        place = next((n for n, one in enumerate(state.calls) if one.id == data["id"]), None)
        if event.type == "tool.call":
            self._end_of_thoughts()
            self.draw()
            call = ToolCall(
                data["id"],
                len(state.text),
                data["serverId"],
                data["server"],
                data["tool"],
                data["arguments"],
                None,
                truncated=False,
                is_error=False,
                seconds=None,
            )
            if data["approval"] == "needed":
                state.undecided.add(call.id)
        elif place is None:
            return
        else:
            state.undecided.discard(data["id"])
            call = state.calls[place]
            if event.type == "tool.result":
                call = replace(
                    call,
                    content=data["content"],
                    truncated=data["truncated"],
                    is_error=data["isError"],
                    seconds=data["seconds"],
                )
        if place is None:
            state.calls.append(call)
        else:
            state.calls[place] = call
        self._step(call)
        self._hint(t("Thinking …"))

    def _step(self, call: ToolCall) -> None:
        if self._writer is not None and self._silent:
            self._writer.no_hint()
        if self._steps is None:
            self._steps = LiveSteps(self._container.container(gap="xsmall"), self._state.run_id)
            # What is said next stands below the calls.
            self._writer = None
            self._silent = True
        self._steps.show(call, undecided=call.id in self._state.undecided)


def _draw_plainly(place: DeltaGenerator, block: str, finished: bool) -> None:
    show_block(block, "", (), place=place, finished=finished)
