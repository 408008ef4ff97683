"""How what a page draws goes out: in order, in few pieces, and to nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.NewSession_pb2 import CustomThemeConfig
from streamlit.runtime.app_session import AppSession, AppSessionState
from streamlit.runtime.forward_msg_queue import ForwardMsgQueue
from streamlit.runtime.scriptrunner import ScriptRunnerEvent
from streamlit.runtime.session_manager import SessionClientDisconnectedError
from streamlit.runtime.state import SessionState
from streamlit.testing.v1 import AppTest, app_test
from streamlit.testing.v1.local_script_runner import LocalScriptRunner

from portal import page_sessions
from portal.kept_messages import KeptMessages
from portal.page_sessions import AT_ONCE, Gathering, HeardClicks, Session

DRAWN = ScriptRunnerEvent.ENQUEUE_FORWARD_MSG


def element(number: int) -> ForwardMsg:
    message = ForwardMsg(hash=str(number))
    message.delta.new_element.markdown.body = str(number)
    message.metadata.delta_path.extend([0, number])
    return message


class Loop:
    """What was put on the event loop, in its order."""

    def __init__(self) -> None:
        self.left: list[Callable[[], None]] = []

    def soon(self, callback: Callable[[], None]) -> None:
        self.left.append(callback)

    def turn(self) -> None:
        left, self.left = self.left, []
        for call in left:
            call()


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def session(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A session as far as it deals with messages; other events leave a mark in its queue."""
    made = Session.__new__(Session)
    made._queue_up()
    made._state = AppSessionState.SHUTDOWN_REQUESTED  # so that nothing is taken down at the end
    made.id = "one"
    made._browser_queue = ForwardMsgQueue()
    made._scriptrunner = SimpleNamespace()  # type: ignore[assignment]
    made._message_enqueued_callback = lambda: None
    made._call_soon_on_event_loop = loop.soon  # type: ignore[method-assign]

    def other(self: Session, sender: object, event: object, *_: object, **__: object) -> None:
        loop.left.append(
            lambda: self._browser_queue.enqueue(
                ForwardMsg(script_finished=ForwardMsg.FINISHED_SUCCESSFULLY)
            )
        )

    monkeypatch.setattr(AppSession, "_on_scriptrunner_event", other)
    return made


def queued(session: Session) -> list[str]:
    return [message.hash or "finished" for message in session._browser_queue.flush()]


def test_the_loop_is_told_once_of_all_that_was_drawn_meanwhile(
    session: Session, loop: Loop
) -> None:
    for number in range(5):
        session._on_scriptrunner_event(session._scriptrunner, DRAWN, element(number))
    assert len(loop.left) == 1
    loop.turn()
    assert queued(session) == ["0", "1", "2", "3", "4"]
    session._on_scriptrunner_event(session._scriptrunner, DRAWN, element(5))
    assert len(loop.left) == 1
    loop.turn()
    assert queued(session) == ["5"]


def test_what_is_drawn_after_an_event_comes_after_it(session: Session, loop: Loop) -> None:
    stopped = ScriptRunnerEvent.SCRIPT_STOPPED_WITH_SUCCESS
    session._on_scriptrunner_event(session._scriptrunner, DRAWN, element(1))
    session._on_scriptrunner_event(session._scriptrunner, stopped)
    session._on_scriptrunner_event(session._scriptrunner, DRAWN, element(2))
    loop.turn()
    assert queued(session) == ["1", "finished", "2"]


def test_a_script_that_was_replaced_draws_nothing_any_more(session: Session, loop: Loop) -> None:
    old = session._scriptrunner
    session._on_scriptrunner_event(old, DRAWN, element(1))
    session._scriptrunner = SimpleNamespace()  # type: ignore[assignment]
    session._on_scriptrunner_event(session._scriptrunner, DRAWN, element(2))
    loop.turn()
    assert queued(session) == ["2"]


def test_a_run_begins_with_what_it_draws_and_not_at_all_if_it_ends_before(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []

    def hear(_self: Session, _sender: object, event: ScriptRunnerEvent, *_: object) -> None:
        heard.append(event.name)

    monkeypatch.setattr(AppSession, "_on_scriptrunner_event", hear)
    runner, begins = session._scriptrunner, ScriptRunnerEvent.SCRIPT_STARTED
    # A callback that asks for another run.
    session._on_scriptrunner_event(runner, begins)
    session._on_scriptrunner_event(runner, ScriptRunnerEvent.SCRIPT_STOPPED_FOR_RERUN)
    session._on_scriptrunner_event(runner, begins)
    assert heard == []
    session._on_scriptrunner_event(runner, DRAWN, element(1))
    assert heard == ["SCRIPT_STARTED"]
    session._on_scriptrunner_event(runner, DRAWN, element(2))
    session._on_scriptrunner_event(runner, ScriptRunnerEvent.SCRIPT_STOPPED_FOR_RERUN)
    # One that draws nothing, and one after which the session is taken down.
    for end in (ScriptRunnerEvent.SCRIPT_STOPPED_WITH_SUCCESS, ScriptRunnerEvent.SHUTDOWN):
        session._on_scriptrunner_event(runner, begins)
        session._on_scriptrunner_event(runner, end)
    assert heard == [
        "SCRIPT_STARTED",
        "SCRIPT_STOPPED_FOR_RERUN",
        "SCRIPT_STARTED",
        "SCRIPT_STOPPED_WITH_SUCCESS",
        "SCRIPT_STARTED",
        "SHUTDOWN",
    ]


class Runtime:
    """Streamlit's runtime with one session, whose browser goes away after `takes` messages."""

    def __init__(self, takes: int = 1_000, *, connected: bool = True) -> None:
        self.sent: list[str] = []
        self._takes = takes
        info = SimpleNamespace() if connected else None
        self._session_mgr = SimpleNamespace(get_active_session_info=lambda _: info)

    def instance(self) -> Runtime:
        return self

    def _send_message(self, _info: object, message: ForwardMsg) -> None:
        if len(self.sent) >= self._takes:
            raise SessionClientDisconnectedError
        self.sent.append(message.hash)


@pytest.mark.parametrize(
    ("runtime", "sent", "left"),
    [
        (Runtime(), 3, 0),
        (Runtime(takes=1), 1, 2),  # the runtime tries the next one, and finds out
        (Runtime(connected=False), 0, 3),
    ],
)
def test_all_goes_out_at_once_and_what_does_not_is_left_to_streamlit(
    session: Session, monkeypatch: pytest.MonkeyPatch, runtime: Runtime, sent: int, left: int
) -> None:
    monkeypatch.setattr(page_sessions, "Runtime", runtime)
    for number in range(3):
        session._browser_queue.enqueue(element(number))
    assert len(session.flush_browser_queue()) == left
    assert len(runtime.sent) == sent


def test_more_than_a_browser_may_have_waiting_goes_at_streamlits_pace(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Runtime()
    monkeypatch.setattr(page_sessions, "Runtime", runtime)
    for number in range(AT_ONCE + 5):
        session._browser_queue.enqueue(element(number))
    left = session.flush_browser_queue()
    assert [*runtime.sent, *(one.hash for one in left)] == [str(n) for n in range(AT_ONCE + 5)]
    assert len(left) == 5


def test_what_is_sent_is_known_to_be_kept(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(page_sessions, "Runtime", Runtime())
    monkeypatch.setattr(KeptMessages, "sent", lambda _, message: told.append(message.hash))
    session._browser_queue.enqueue(element(7))
    session.flush_browser_queue()
    assert told == ["7"]


@pytest.mark.parametrize(
    "section", ["theme", "theme.light", "theme.dark", "theme.sidebar", "theme.dark.sidebar"]
)
def test_the_theme_is_the_one_that_streamlit_would_send(section: str) -> None:
    for _ in range(2):
        ours, streamlits = CustomThemeConfig(), CustomThemeConfig()
        page_sessions._put_theme(ours, section)
        page_sessions._populate_theme(streamlits, section)
        assert ours == streamlits


class Local(HeardClicks, LocalScriptRunner):
    """The runner of AppTest, which ours is but for that one runs in a portal, and in its turn."""

    newest: ClassVar[Local]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        Local.newest = self


class Interrupted(LocalScriptRunner):
    """As Streamlit has it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        Local.newest = self  # type: ignore[assignment]


def after_a_click(page: Callable[[], None]) -> AppTest:
    """The page, once its button was clicked and all is done."""
    app = AppTest.from_function(page).run()
    return app.button[0].click().run()


def _two_clicks() -> None:
    import streamlit as st
    from streamlit.runtime.scriptrunner import RerunData

    from tests.portal.test_page_sessions import Local

    def work() -> None:
        # The next click, while this one is worked on.
        Local.newest.request_rerun(RerunData())
        st.session_state["begun"] = True
        st.session_state["done"] = True

    st.button("Go", on_click=work)
    st.text("done" if "done" in st.session_state else "lost")


@pytest.mark.parametrize(("runner", "said"), [(Local, "done"), (Interrupted, "lost")])
def test_a_click_is_worked_on_to_its_end_whatever_comes_next(
    runner: type[LocalScriptRunner], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streamlit's own runner shows that the test could fail."""
    monkeypatch.setattr(app_test, "LocalScriptRunner", runner)
    app = after_a_click(_two_clicks)
    assert app.text[0].value == said


def _click_elsewhere() -> None:
    import streamlit as st
    from streamlit.runtime.scriptrunner import RerunData

    from portal.page_sessions import whole_page_on_click
    from tests.portal.test_page_sessions import Local

    @st.fragment(key="other")
    def other() -> None:
        st.session_state["other"] = True

    @st.fragment(key="long")
    def long() -> None:
        if not st.session_state.pop("sent", False):
            return
        with whole_page_on_click():
            fragments = Local.newest._fragment_storage._fragments  # type: ignore[attr-defined]
            Local.newest.request_rerun(RerunData(fragment_id=next(iter(fragments))))
            st.session_state["goes_on"] = True
            st.session_state["ended_by_itself"] = True

    def send() -> None:
        st.session_state["sent"] = True
        st.rerun("long")

    other()
    long()
    st.button("Send", on_click=send)
    st.session_state["runs"] = st.session_state.get("runs", 0) + 1


@pytest.mark.parametrize(("runner", "heard"), [(Local, True), (Interrupted, False)])
def test_a_click_in_another_fragment_ends_one_that_goes_on_for_long(
    runner: type[LocalScriptRunner], heard: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_test, "LocalScriptRunner", runner)
    app = after_a_click(_click_elsewhere)
    assert ("ended_by_itself" not in app.session_state) is heard
    assert app.session_state["runs"] == (2 if heard else 1)


def _told() -> None:
    import streamlit as st
    from streamlit.runtime.scriptrunner import RerunData

    from portal.page_sessions import told_of_clicks
    from tests.portal.test_page_sessions import Local

    if st.session_state.get("runs"):
        return
    told: list[str] = []
    st.session_state["told"] = told
    st.session_state["runs"] = 1
    with told_of_clicks(lambda: told.append("told")) as is_told:
        st.session_state["is_told"] = is_told
        Local.newest.request_rerun(RerunData())
        told.append("went on")
        st.session_state["looked"] = True
        told.append("went on after its end")


@pytest.mark.parametrize(
    ("runner", "told"), [(Local, ["told", "went on"]), (Interrupted, ["went on"])]
)
def test_a_script_that_waits_is_told_that_it_is_to_end(
    runner: type[LocalScriptRunner], told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_test, "LocalScriptRunner", runner)
    app = AppTest.from_function(_told).run()
    assert app.session_state["told"] == told
    assert app.session_state["is_told"] is (runner is Local)


class Transport:
    def __init__(self) -> None:
        self.did: list[Any] = []

    def write(self, data: bytes) -> None:
        self.did.append(data)

    def close(self) -> None:
        self.did.append("closed")

    def is_closing(self) -> bool:
        return False


def test_a_websocket_writes_once_in_a_turn_of_the_loop_and_before_it_closes() -> None:
    inner = Transport()

    async def use() -> None:
        outer = Gathering(inner, asyncio.get_running_loop())  # type: ignore[arg-type]
        outer.write(b"a")
        outer.write(b"b")
        assert inner.did == []
        await asyncio.sleep(0)
        assert inner.did == [b"ab"]
        outer.write(b"c")
        outer.close()
        await asyncio.sleep(0)
        assert outer.is_closing() is False

    asyncio.run(use())
    assert inner.did == [b"ab", b"c", "closed"]


def test_the_state_of_a_session_is_kept_as_streamlit_keeps_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def page() -> None:
        import streamlit as st

        st.session_state.setdefault("plain", []).append(1)
        st.text_input("Name", key="name", value="Ana")
        st.checkbox("Without a key")
        st.session_state["shown"] = dict(st.session_state.get("part") or {})
        made = st.components.v2.component("kept_as_it_is", html="<p>part</p>")
        made(key="part", default={"value": 7}, on_value_change=lambda: None)

    def played() -> dict[str, Any]:
        test = AppTest.from_function(page).run()
        test.text_input(key="name").set_value("Eva").run()
        test.checkbox[0].check().run()
        state = test.session_state
        assert (state["name"], state["plain"], state["shown"]) == ("Eva", [1] * 3, {"value": 7})
        return {key: state[key] for key in ("name", "plain", "part", "shown")}

    theirs = played()
    monkeypatch.setattr(SessionState, "_compact_state", page_sessions._compact)
    assert played() == theirs
