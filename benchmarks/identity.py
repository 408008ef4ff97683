"""What signing in and opening pages cost where there are few users and where there are many.

Two systems run beside each other and are asked in turn, so that whatever else the machine does
falls on both alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import aiohttp
from sqlalchemy import insert
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState

from benchmarks.system import Bench
from benchmarks.tab import SessionFailed, Tab
from papita_core.actors import Actor
from papita_core.app import Papita
from papita_core.clock import utc_now
from papita_core.db import new_id, table_of
from papita_core.users.models import SessionRow
from papita_core.users.service import NewUser
from papita_core.users.tokens import new_token, token_hash
from tests.system import PASSWORD

SIGN_IN = "sign-in"
NAME = "visitor"
SECONDS = 60.0


def fill(system: Bench, count: int) -> str:
    """An administrator with a key for AL-Chat, and others, each with a session, until there are
    `count` users. The cookie of the administrator.
    """
    with system.papita() as papita:
        papita.users.create(Actor.operator(), NewUser(NAME, PASSWORD, role="administrator"))
        _add_others(papita, count - 1)
    (cookie,) = system.session_cookies([system.borrowing(NAME)])
    return f"papita_session={cookie}"


def _add_others(papita: Papita, count: int) -> None:
    now = utc_now()
    with papita.database.write() as session:
        rows = []
        for number in range(count):
            new = NewUser(f"person{number}", "", f"Person {number}", f"p{number}@example.org")
            user = papita.users.add(session, new, "", actor_id="benchmark")
            rows.append(_session_of(user.id, now))
        session.execute(insert(table_of(SessionRow)), rows)


def _session_of(user_id: str, now: datetime) -> dict[str, Any]:
    return {
        "id": new_id(),
        "user_id": user_id,
        "handle_hash": token_hash(new_token()),
        "address": "127.0.0.1",
        "network": "127.0.0.1",
        "user_agent": "benchmark",
        "created_at": now,
        "last_seen_at": now,
        "expires_at": now.replace(year=now.year + 1),
        "method": "password",
        "proved_at": now,
        "remember": True,
    }


async def visit(job: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds of each visit: `pages` are opened and somebody signs in, `count` times, in turn
    at each of `systems` (name: url and cookie); the first time of each does not count.
    """
    systems: Mapping[str, Mapping[str, str]] = job["systems"]
    ways: list[str] = [SIGN_IN, *job["pages"]]
    found: dict[str, dict[str, list[float]]] = {way: {name: [] for name in systems} for way in ways}
    async with aiohttp.ClientSession() as http:
        for turn in range(job["count"] + 1):
            for way in ways:
                # Who is first changes: what a page leaves to the machine falls on the next one.
                for name in sorted(systems, reverse=turn % 2 == 1):
                    seconds = await _visit(http, way, systems[name])
                    if turn:
                        found[way][name].append(1000 * seconds)
    return {
        way: {name: statistics.median(taken) for name, taken in times.items()}
        for way, times in found.items()
    }


async def _visit(http: aiohttp.ClientSession, way: str, system: Mapping[str, str]) -> float:
    if way == SIGN_IN:
        return await _sign_in(http, system["url"])
    tab = await Tab.connect(http, system["url"], way, system["cookie"])
    begin = time.perf_counter()
    await tab.rerun()
    await _drawn(tab)
    seconds = time.perf_counter() - begin
    await tab.close()
    return seconds


async def _sign_in(http: aiohttp.ClientSession, url: str) -> float:
    """From the click on `Log in` until the dashboard is drawn."""
    tab = await Tab.connect(http, url, "")
    await tab.rerun()
    door = await _drawn(tab)
    name, password, button = (
        WidgetState(id=door[label]) for label in ("Username", "Password", "Log in")
    )
    name.string_value, password.string_value, button.trigger_value = NAME, PASSWORD, True
    begin = time.perf_counter()
    await tab.rerun(name, password, button)
    if "Log out" not in await _drawn(tab):
        raise SessionFailed("signing in did not work")
    seconds = time.perf_counter() - begin
    await tab.close()
    return seconds


async def _drawn(tab: Tab) -> dict[str, str]:
    """Waits until a run has ended; labels and ids of fields and buttons that it drew."""
    found: dict[str, str] = {}
    end = time.monotonic() + SECONDS
    while True:
        message = ForwardMsg.FromString(await tab.receive(end - time.monotonic()))
        if message.HasField("navigation"):
            tab.page_hash = message.navigation.page_script_hash
        element = message.delta.new_element
        if element.HasField("text_input"):
            found[element.text_input.label] = element.text_input.id
        elif element.HasField("button"):
            found[element.button.label] = element.button.id
        elif element.HasField("exception"):
            raise SessionFailed(element.exception.message)
        # A run that asks for another one goes on.
        ended = message.HasField("script_finished")
        if ended and message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY:
            return found
