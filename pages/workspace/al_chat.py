"""The chat page: a conversation, the way to write in it, and the answer that is being written."""

import streamlit as st

from portal.chat.actions import send_what_is_ready
from portal.chat.choices import Prices
from portal.chat.composer import show_composer, show_input
from portal.chat.dictation import wait_for_words
from portal.chat.follow import Live
from portal.chat.header import show_header
from portal.chat.history import show_conversations, tell_what_was_read
from portal.chat.messages import show_messages
from portal.chat.receipts import show_details_asked_for
from portal.chat.shortcuts import show_shortcuts
from portal.chat.sources import show_source_asked_for
from portal.chat.toolbar import show_models_asked_for
from portal.chat.view import load
from portal.session import remembered, require_user, tab

user = require_user("projects:launch")

tab().covered = False
# Before all that AL-Chat is asked for: what one came to write can be written while that comes.
dictated = show_input()
view = load()
if dictated != remembered(Prices).transcribes:
    st.rerun()
with Live(view.writing) as live:
    # In one place, whatever there is of it: the messages below must not move from run to run, or
    # the browser builds each of them anew.
    with st.container():
        dialog_is_open = show_header(view)
        dialog_is_open |= show_source_asked_for(view)
    dialog_is_open |= show_details_asked_for(view)
    dialog_is_open |= show_models_asked_for(view)
    show_messages(user, view, live)
    dialog_is_open |= show_composer(user, view)
    live.look()
    show_conversations(view)
    with st.bottom:
        dialog_is_open |= show_shortcuts()
    tell_what_was_read(view)

    if send_what_is_ready(view):
        st.rerun()

    # Last on the page: this waits until the answer is finished. Under a dialog it must not, since
    # nothing in a dialog is heard before the script has ended. Closing the dialog runs the page.
    tab().covered |= dialog_is_open
    if not tab().covered:
        wait_for_words(view, live.look)
        live.follow()
