"""Streamlit's sessions as the portal runs them: what a page shows goes out sooner and costs less.

What a page draws reaches Streamlit's event loop message by message. Streamlit lets the loop turn
once for each that it sends, and each turn gives the interpreter away to whichever script is at
work; so a page of sixty messages waits sixty times. Here all that has gathered goes at once, in one
write.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import cache, partial
from typing import Any, Final, NoReturn

import streamlit as st
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.NewSession_pb2 import CustomThemeConfig
from streamlit.runtime import Runtime, app_session, websocket_session_manager
from streamlit.runtime.app_session import AppSession
from streamlit.runtime.scriptrunner import (
    RerunData,
    ScriptRunner,
    ScriptRunnerEvent,
    get_script_run_ctx,
)
from streamlit.runtime.session_manager import SessionClientDisconnectedError
from streamlit.runtime.state import SessionState
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from portal.kept_messages import KeptMessages
from portal.turns import turns

# Streamlit takes a client for gone that has five hundred waiting; what is more goes at its pace.
AT_ONCE: Final = 200

_populate_theme = app_session._populate_theme_msg


class Session(AppSession):
    """Sends at once what is drawn, and as a hash only what the browser surely keeps."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._queue_up()

    def _queue_up(self) -> None:
        self._kept_messages = KeptMessages()
        self._gathering = threading.Lock()
        # What a script has drawn since the loop was last told to look: who drew it, and what.
        self._drawn: list[tuple[ScriptRunner | None, ForwardMsg]] | None = None
        # The begin of a run that has drawn nothing yet.
        self._beginning: Callable[[], None] | None = None

    def _on_scriptrunner_event(
        self,
        sender: ScriptRunner | None,
        event: ScriptRunnerEvent,
        forward_msg: ForwardMsg | None = None,
        *given: Any,
        **more: Any,
    ) -> None:
        """From the script's thread. The loop is told of the first of several messages alone, and
        takes those that follow it with it.

        A browser looks at all of its page when a run begins. So it hears of a run with the first
        thing that is drawn, and not of one that ends before: a callback has asked for another.
        """
        beginning, self._beginning = self._beginning, None
        if event is ScriptRunnerEvent.SCRIPT_STARTED:
            with self._gathering:
                self._drawn = None
            self._beginning = partial(
                super()._on_scriptrunner_event, sender, event, forward_msg, *given, **more
            )
            return
        if beginning is not None:
            if event is ScriptRunnerEvent.SCRIPT_STOPPED_FOR_RERUN:
                return
            beginning()
        if event is not ScriptRunnerEvent.ENQUEUE_FORWARD_MSG or forward_msg is None:
            with self._gathering:
                self._drawn = None  # what comes after this event stays after it
            super()._on_scriptrunner_event(sender, event, forward_msg, *given, **more)
            return
        with self._gathering:
            if self._drawn is not None:
                self._drawn.append((sender, forward_msg))
                return
            drawn = self._drawn = [(sender, forward_msg)]
        self._call_soon_on_event_loop(partial(self._take_drawn, drawn))

    def _take_drawn(self, drawn: list[tuple[ScriptRunner | None, ForwardMsg]]) -> None:
        with self._gathering:
            if self._drawn is drawn:
                self._drawn = None
        for sender, message in drawn:
            # One that was told to end may still draw; Streamlit ignores that, too.
            if sender is self._scriptrunner:
                self._browser_queue.enqueue(message)
        if self._message_enqueued_callback:
            self._message_enqueued_callback()

    def _create_scriptrunner(self, initial_rerun_data: RerunData) -> None:
        super()._create_scriptrunner(initial_rerun_data)
        if isinstance(self._scriptrunner, HeardClicks):
            self._scriptrunner.kept_messages = self._kept_messages

    def flush_browser_queue(self) -> list[ForwardMsg]:
        """Sends what there is. What could not be sent is returned for the runtime, as all of it is
        by Streamlit: it finds out in the same way that nobody is there.
        """
        if self._browser_queue.is_empty():
            return []
        messages = super().flush_browser_queue()
        for message in messages:
            self._kept_messages.sent(message)
        runtime = Runtime.instance()
        info = runtime._session_mgr.get_active_session_info(self.id)
        if info is None:
            return messages
        sent = 0
        try:
            for message in messages[:AT_ONCE]:
                runtime._send_message(info, message)
                sent += 1
        except SessionClientDisconnectedError:
            pass
        return messages[sent:]

    def handle_backmsg(self, msg: BackMsg) -> None:
        if msg.WhichOneof("type") == "rerun_script":
            named = msg.rerun_script.cached_message_hashes
            named[:] = self._kept_messages.sure(named)
        super().handle_backmsg(msg)


class WholeCallbacks(ScriptRunner):
    """Lets what a click brings about come to its end. Streamlit stops a callback when the next
    click arrives, at its next look at the session state, and nothing does the rest of it.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._calling_back = False
        state = self._session_state
        # On the object itself, since to set an attribute would put it into the session state.
        call = partial(self._whole, state.on_script_will_rerun)
        object.__setattr__(state, "on_script_will_rerun", call)

    def _whole(self, call: Callable[..., None], *given: Any, **more: Any) -> None:
        self._calling_back = True
        try:
            call(*given, **more)
        finally:
            self._calling_back = False

    def _maybe_handle_execution_control_request(self) -> None:
        # Right after the callbacks Streamlit asks once more.
        if not self._calling_back:
            super()._maybe_handle_execution_control_request()


_here = threading.local()


class HeardClicks(WholeCallbacks):
    """Streamlit lets no fragment end the run of another, so that a click in one waits until the
    other is finished. Of one that goes on for long a click runs the whole page instead.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._runs_whole = False
        self._tell: Callable[[], None] | None = None
        self.kept_messages: KeptMessages | None = None

    def _run_script(self, rerun_data: RerunData) -> None:
        _here.runner = self
        super()._run_script(rerun_data)

    def request_rerun(self, rerun_data: RerunData) -> bool:
        taken = super().request_rerun(self._whole_page(rerun_data))
        self._asked()
        return taken

    def request_stop(self) -> None:
        super().request_stop()
        self._asked()

    def _asked(self) -> None:
        tell = self._tell
        if tell is not None:
            tell()

    @contextmanager
    def telling(self, tell: Callable[[], None]) -> Iterator[None]:
        self._tell = tell
        try:
            yield
        finally:
            self._tell = None

    @contextmanager
    def running_whole(self) -> Iterator[None]:
        self._runs_whole = True
        requests = self._requests
        with requests._lock:
            # What came before.
            requests._rerun_data = self._whole_page(requests._rerun_data)
        try:
            yield
        finally:
            self._runs_whole = False

    def _whole_page(self, wanted: RerunData) -> RerunData:
        if not self._runs_whole or wanted.is_auto_rerun:
            return wanted
        return replace(
            wanted, fragment_id=None, fragment_id_queue=[], is_fragment_scoped_rerun=False
        )


def _runner() -> HeardClicks | None:
    """Whose script this thread runs."""
    return getattr(_here, "runner", None)


def whole_page_on_click() -> AbstractContextManager[None]:
    """For a fragment that goes on for long: meanwhile a click in another one runs the whole page,
    and ends this one with it.
    """
    runner = _runner()
    return nullcontext() if runner is None else runner.running_whole()


@contextmanager
def told_of_clicks(tell: Callable[[], None]) -> Iterator[bool]:
    """Calls `tell`, from any thread, when something asks this script to end or to begin anew, a
    click or a closed tab: whoever waits then looks at the session state, where it ends. False where
    nobody would be told. What was asked for before is not told.
    """
    runner = _runner()
    if runner is None:
        yield False
        return
    with runner.telling(tell):
        yield True


def draw_anew() -> NoReturn:
    """Runs the page again, as `st.rerun` does; what this run has sent already is sent as a hash."""
    runner, context = _runner(), get_script_run_ctx()
    if runner is not None and runner.kept_messages is not None and context is not None:
        context.cached_message_hashes |= runner.kept_messages.after_this_run()
    st.rerun()


class Runner(HeardClicks):
    """Runs a script while it has a turn."""

    def _run_script(self, rerun_data: RerunData) -> None:
        with turns.one():
            super()._run_script(rerun_data)


@cache
def _theme(section: str) -> CustomThemeConfig:
    made = CustomThemeConfig()
    _populate_theme(made, section)
    return made


def _put_theme(msg: CustomThemeConfig, section: str = "theme") -> None:
    """The theme goes out with each run, and to gather it from all settings takes 4 ms."""
    msg.MergeFrom(_theme(section))


def _compact(state: SessionState) -> None:
    """Puts what is new of a session's state to what there was, as Streamlit does, but as it is
    stored: there the state of each component is first dressed up for a script that reads it, and
    the dress is a class of its own each time.
    """
    keys = state._key_id_mapper.id_key_mapping
    for name in state._keys():
        with suppress(KeyError):  # a widget that is not known any more
            state._old_state[name] = state._getitem(name, keys.get(name, name))
    state._new_session_state.clear()
    state._new_widget_state.clear()


def install() -> None:
    """Lets Streamlit make such sessions from now on."""
    SessionState._compact_state = _compact  # type: ignore[method-assign, assignment]
    websocket_session_manager.AppSession = Session  # type: ignore[attr-defined]
    app_session.ScriptRunner = Runner  # type: ignore[attr-defined]
    app_session._populate_theme_msg = _put_theme


class Websocket(WebSocketsSansIOProtocol):
    """Uvicorn's websocket, but it writes once in a turn of the loop, however much there is."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport = Gathering(self.transport, self.loop)  # type: ignore[assignment]


class Gathering:
    """A transport that writes at the end of the loop's turn, and before it closes."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._gathered: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._gathered:
            self._loop.call_soon(self._write)
        self._gathered.append(data)

    def close(self) -> None:
        self._write()
        self._transport.close()

    def _write(self) -> None:
        if self._gathered:
            gathered, self._gathered = self._gathered, []
            self._transport.write(b"".join(gathered))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
