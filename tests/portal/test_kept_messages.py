"""What a browser says it keeps, and what the portal makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path

import aiohttp
import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from papita_core.actors import Actor
from papita_core.users.service import NewUser
from portal.kept_messages import SETTLE_SECONDS, KeptMessages
from tests.system import PASSWORD, System

EARLY = ForwardMsg.FINISHED_EARLY_FOR_RERUN
WELL = ForwardMsg.FINISHED_SUCCESSFULLY
FRAGMENT = ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY


class Browser:
    """Tells what was sent, at a time that stands still."""

    def __init__(self) -> None:
        self.now = 100.0
        self.kept = KeptMessages(lambda: self.now)

    def run(self, *shown: str, status: ForwardMsg.ScriptFinishedStatus.ValueType = WELL) -> None:
        for name in shown:
            self.kept.sent(whole(name))
        self.kept.sent(finished(status))


def whole(name: str, fragment: str = "") -> ForwardMsg:
    message = ForwardMsg(hash=name)
    message.metadata.cacheable = True
    message.delta.new_element.markdown.body = name
    message.delta.fragment_id = fragment
    return message


def finished(status: ForwardMsg.ScriptFinishedStatus.ValueType, *fragments: str) -> ForwardMsg:
    message = ForwardMsg(script_finished=status)
    message.metadata.run.fragment_ids.extend(fragments)
    return message


def test_a_run_that_asks_for_the_next_one_has_what_it_showed_kept_for_that() -> None:
    browser = Browser()
    browser.run("a", "b")
    browser.run("b")
    browser.kept.sent(whole("c"))
    assert browser.kept.after_this_run() == {"b", "c"}
    browser.kept.sent(finished(EARLY))
    assert browser.kept.after_this_run() == {"b", "c"}
    assert set(browser.kept.sure(["a", "b", "c"])) == browser.kept.after_this_run()


def test_what_the_last_run_did_not_show_is_not_sure_until_its_end_has_arrived() -> None:
    browser = Browser()
    assert browser.kept.sure(["a"]) == ["a"]
    browser.run("a", "b")
    browser.run("b")
    browser.kept.sent(whole("c"))
    assert browser.kept.sure(["a", "b", "c", "d"]) == ["b", "c"]
    browser.now += SETTLE_SECONDS
    assert browser.kept.sure(["a", "b", "c", "d"]) == ["a", "b", "c", "d"]


def test_a_hash_counts_as_shown() -> None:
    browser = Browser()
    browser.run("a")
    browser.kept.sent(ForwardMsg(ref_hash="a"))
    browser.run("b")
    assert browser.kept.sure(["a", "b"]) == ["a", "b"]


def test_a_run_that_was_broken_off_lets_nothing_be_forgotten() -> None:
    browser = Browser()
    browser.run("a")
    browser.run("b", status=EARLY)
    assert browser.kept.sure(["a", "b"]) == ["a", "b"]


def test_the_run_of_a_fragment_lets_its_own_messages_be_forgotten() -> None:
    browser = Browser()
    browser.kept.sent(whole("other", "g"))
    browser.kept.sent(whole("old", "f"))
    browser.run("a")
    browser.kept.sent(whole("new", "f"))
    browser.kept.sent(finished(FRAGMENT, "f"))
    named = ["a", "new", "old", "other"]
    assert browser.kept.sure(named) == ["a", "new", "other"]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(Path(tmp_path_factory.mktemp("system"))) as made:
        yield made


class Tab:
    """The page's websocket as a browser opens it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, url: str) -> None:
        self._socket = socket
        self._url = url

    async def visit(self, page: str, kept: Iterable[str] = ()) -> tuple[set[str], set[str]]:
        """The messages worth keeping that the page shows: those sent whole, those as a hash."""
        asked = BackMsg()
        state = asked.rerun_script
        state.page_name = page
        state.cached_message_hashes.extend(kept)
        state.context_info.timezone = "UTC"
        state.context_info.locale = "en-US"
        state.context_info.url = f"{self._url}/{page}"
        await self._socket.send_bytes(asked.SerializeToString())
        sent, named = set(), set()
        while True:
            answer = await self._socket.receive(20)
            assert answer.type is aiohttp.WSMsgType.BINARY, answer
            message = ForwardMsg.FromString(answer.data)
            if message.metadata.cacheable:
                sent.add(message.hash)
            kind = message.WhichOneof("type")
            if kind == "ref_hash":
                named.add(message.ref_hash)
            elif kind == "script_finished" and message.script_finished == WELL:
                return sent, named


def test_a_page_that_is_left_and_opened_again_at_once_gets_its_messages_whole(
    system: System,
) -> None:
    with system.papita() as papita:
        user = papita.users.create(Actor.operator(), NewUser("ana", PASSWORD, "Ana"))
        handle, _ = papita.sessions.redeem(papita.sessions.start(user.id).ticket)

    async def go() -> None:
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(
                f"{system.url.replace('http', 'ws', 1)}/_stcore/stream",
                protocols=("streamlit",),
                origin=system.url,
                headers={"Cookie": f"papita_session={handle}"},
                max_msg_size=0,
            ) as socket,
        ):
            tab = Tab(socket, system.url)
            chat, _ = await tab.visit("al-chat")
            other, named = await tab.visit("credentials", chat)
            left = chat - other - named
            assert left
            # The end of that run is on its way to the browser, which forgets what it did not show.
            again, named = await tab.visit("al-chat", chat | other)
            assert left <= again
            assert not named & left
            # What it has just shown it does keep,
            again, named = await tab.visit("al-chat", chat | other)
            assert left <= named
            assert not again & left
            # and a browser that has heard all of it knows best.
            await tab.visit("credentials", chat | other)
            await asyncio.sleep(SETTLE_SECONDS)
            _, named = await tab.visit("al-chat", chat | other)
            assert left <= named

    asyncio.run(go())
