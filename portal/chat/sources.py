"""The sources of an answer: links in its text and a list below it, and the place in the file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import streamlit as st

from alchat_core.client import Message, Source
from portal.chat.markdown import cited
from portal.chat.view import View, client
from portal.dialogs import dialog
from portal.session import remembered, tab
from portal.texts import N_, t, tn
from portal.words import plain

# A link in Markdown can call nothing in Python: this hears the click and says which source it was.
_LINKS_JS = """
let hear

export default function ({ setTriggerValue }) {
  if (hear) document.removeEventListener("click", hear, true)
  hear = (event) => {
    const link = event.target.closest?.('a[href^="#source-"]')
    if (!link) return
    event.preventDefault()
    event.stopPropagation()
    setTriggerValue("source", link.getAttribute("href").slice("#source-".length))
  }
  document.addEventListener("click", hear, true)
  return () => {
    document.removeEventListener("click", hear, true)
  }
}
"""
_LINKS = st.components.v2.component("al_chat_source_links", js=_LINKS_JS)


@dataclass(slots=True)
class Listed:
    """The sources of the answers that this tab has drawn."""

    by_message: dict[str, tuple[Source, ...]] = field(default_factory=dict)


def address(message_id: str) -> Callable[[int], str]:
    """Where the links of an answer lead."""
    return lambda number: f"#source-{message_id}-{number}"


def show_sources(message: Message) -> None:
    """The list below an answer: what it cites, or else what it was given."""
    if not message.sources:
        return
    remembered(Listed).by_message[message.id] = message.sources
    by_number = {source.n: source for source in message.sources}
    used = cited(message.content, by_number)
    listed = [by_number[number] for number in used] or list(message.sources)
    link = address(message.id)
    with st.expander(
        tn("{count} source", "{count} sources", len(listed))
        if used
        else tn("Was given {count} excerpt", "Was given {count} excerpts", len(listed)),
        type="compact",
        icon=":material/description:",
    ):
        st.markdown("  \n".join(f"[\\[{one.n}\\] {_name(one)}]({link(one.n)})" for one in listed))


def _name(source: Source) -> str:
    if source.page is None:
        return plain(source.name)
    return t("{name}, page {page}", name=plain(source.name), page=source.page)


def show_source_asked_for(view: View) -> bool:
    """Opens the source whose link was clicked; True while its dialog is over the page.

    Before the messages are drawn: so the click is heard although an answer is being written.
    """
    if not (
        view.active
        or view.has_earlier
        or any(one.sources for one in (*view.messages, *view.compared))
    ):
        return False
    asked = _LINKS(key="al_chat_source_links", on_source_change=_nothing).source
    found = _source_of(view, asked) if isinstance(asked, str) else None
    if found is None:
        return False
    _show_source(found)
    return True


def _nothing() -> None:
    """The run that follows reads what was clicked."""


def _source_of(view: View, asked: str) -> Source | None:
    message_id, _, number = asked.rpartition("-")
    sources = remembered(Listed).by_message.get(message_id, ())
    written = next((one.run for one in view.writing if one.id == message_id), None)
    if written is not None and (following := tab().following.get(written.id)) is not None:
        sources = following.sources
    return next((one for one in sources if str(one.n) == number), None)


@dialog(N_("Source"), on_dismiss="rerun", icon=":material/description:")
def _show_source(source: Source) -> None:
    st.markdown(f"**{_name(source)}**")
    if source.excerpt:
        with st.container(border=True):
            st.text(source.excerpt)
    if source.attachment_id is None:
        st.caption(t("The file itself is not here."))
        return
    user, attachment_id = client(), source.attachment_id
    st.download_button(
        t("Download the file"),
        data=lambda: user.attachment_content(attachment_id),
        file_name=source.name,
        icon=":material/download:",
        key=f"al_chat_source_file_{attachment_id}",
        on_click="ignore",
    )
