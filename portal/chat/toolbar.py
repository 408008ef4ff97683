"""Below each message what can be done with it, and the question while it is being edited.

The messages themselves hold no widget: what is clicked in any bar comes from one component. While
an answer is followed it is drawn by the page itself, since no fragment is heard before the script
has ended; else it is in a fragment, and a thumb draws nothing else anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st

from alchat_core.client import Message
from portal.chat import steering
from portal.chat.attachments import show_attachments
from portal.chat.markdown import asked
from portal.chat.receipts import Keys, receipt
from portal.chat.steering import Steering, beside_key, edit_key, other_key
from portal.chat.view import View
from portal.components.messages import BarStates, bar_place, show_bars
from portal.dialogs import dialog
from portal.session import remembered, require_user
from portal.texts import N_, t
from portal.words import plain


def show_question(view: View, message: Message) -> None:
    """A question with its bar, or the field in which it is edited."""
    show_attachments(message)
    if message.id in remembered(Steering).edited:
        _editor(view, message)
        st.empty()  # where the bar stood; while an answer is followed nothing else takes it away
        return
    st.markdown(asked(message.content), anchors=False)
    bar_place(message.id, "question", message.content)


def show_answer_bar(message: Message) -> None:
    """The bar below an answer."""
    bar_place(message.id, "answer", message.content)


def show_models_asked_for(view: View) -> bool:
    """Opens the list of models for another answer; True while it is open."""
    state = remembered(Steering)
    message, state.choosing = view.message(state.choosing), None
    if message is None:
        return False
    _other_model(view, message)
    return True


def show_bar_states(view: View) -> None:
    """What the bars of all messages on the page show, and what is done when one is clicked."""
    show_bars(_states(view, view.shown), on_act=partial(steering.act, view))


def redraw_if_wanted() -> None:
    """In a fragment: runs the whole page where a callback has changed more than the fragment."""
    state = remembered(Steering)
    if state.redraw:
        state.redraw = False
        st.rerun()


def _states(view: View, messages: Sequence[Message]) -> BarStates:
    last = view.messages[-1] if view.messages else None
    steering, keys = remembered(Steering), remembered(Keys)
    rated = ((one.id, steering.ratings.get(one.id, one.feedback)) for one in messages)
    written = (one for one in messages if one not in view.writing)
    told = ((one.id, receipt(one, keys, last=one is last)) for one in written)
    return BarStates(
        last=last.id if last is not None and view.active is None else None,
        versions={
            one.id: (one.siblings.index + 1, one.siblings.count)
            for one in messages
            if one.siblings
            and one.siblings.count > (len(view.compared) if one in view.compared else 1)
        },
        ratings={name: (found.rating, found.comment) for name, found in rated if found},
        failed=steering.failed,
        receipts={name: line for name, line in told if line},
        chosen={one.id: one.id == last.id for one in view.compared} if last is not None else {},
    )


def _editor(view: View, message: Message) -> None:
    problem = remembered(Steering).problems.get(message.id)
    with st.form(f"al_chat_edit_form_{message.id}", border=False):
        st.text_area(
            t("Edit your message"),
            value=message.content,
            key=edit_key(message),
            height="content",
            label_visibility="collapsed",
        )
        if problem:
            st.error(plain(problem), icon=":material/error:")
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.form_submit_button(
                t("Save & send"),
                type="primary",
                disabled=view.active is not None,
                help=t("When the answer is complete") if view.active else None,
                on_click=steering.save_edit,
                args=(message,),
            )
            st.form_submit_button(
                t("Cancel"), type="tertiary", on_click=steering.cancel_edit, args=(message,)
            )


@dialog(N_("Another model"), on_dismiss="rerun", icon=":material/model_training:")
def _other_model(view: View, message: Message) -> None:
    require_user("projects:launch")
    redraw_if_wanted()
    if message in view.compared or message is view.messages[-1]:
        st.toggle(t("Show it beside this answer"), key=beside_key(message))
    st.selectbox(
        t("Another model"),
        [model for model in view.models if model != message.model],
        index=None,
        key=other_key(message),
        placeholder=t("Which model is to answer?"),
        label_visibility="collapsed",
        accept_new_options=True,
        on_change=steering.regenerate_with_chosen,
        args=(message,),
    )
