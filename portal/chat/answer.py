"""A finished answer: its text, and what belongs to it, each at its place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from alchat_core.client import Message, Source, ToolCall
from portal.chat.markdown import diagram_of, pieces, shown
from portal.chat.reasoning import show_thoughts
from portal.chat.sources import address, show_sources
from portal.chat.tool_steps import show_steps
from portal.texts import t


def show_answer(message: Message, *, last: bool, live: bool = False) -> None:
    """Draws the answer into the bubble that is open.

    `live`: an answer is being written on this page, which is when no fragment would be heard.
    """
    if message.reasoning:
        show_thoughts(message, live=live)
    elif last:
        # The place of the thoughts while it was written: what follows must not move.
        st.empty()
    for part in parts(message.content, message.tool_calls):
        if isinstance(part, str):
            # Only the last answer keeps the blocks in which it was drawn.
            for block in pieces(part, apart=last):
                show_block(block, message.id, message.sources)
        else:
            with st.container(gap="xsmall"):
                show_steps(part, message.id, live=live)
    show_sources(message)


def show_block(
    block: str,
    message_id: str,
    sources: Sequence[Source],
    *,
    place: DeltaGenerator | None = None,
    finished: bool = True,
) -> None:
    """One element: a diagram that is finished drawn, anything else as Markdown."""
    where = place or st
    diagram = diagram_of(block) if finished else None
    if diagram is not None:
        with where.container(gap="xsmall"):
            st.mermaid_chart(diagram, alt=t("A diagram"))
            # Of one that cannot be drawn only the browser knows.
            with st.expander(t("Source of the diagram"), type="compact"):
                st.code(diagram, language="mermaid", wrap_lines=True)
    else:
        numbers = {source.n for source in sources}
        where.markdown(shown(block, numbers, address(message_id)), anchors=False)


def parts(text: str, calls: Iterable[ToolCall]) -> Iterator[str | tuple[ToolCall, ...]]:
    """The text of an answer, and between its pieces the calls that were made there."""
    place = 0
    for at, some in groupby(calls, key=lambda call: call.at):
        if piece := text[place:at]:
            yield piece
        yield tuple(some)
        place = max(place, at)
    if piece := text[place:]:
        yield piece
