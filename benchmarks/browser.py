"""Answers on the real chat page in headless Chromium, timed by a probe inside the page.

The probe looks after every change of the document, in the next animation frame, so what it calls
finished has been drawn; Playwright's own waits poll too slowly for that. Bytes are the payloads of
the websocket's frames as the browser's network layer reports them, before compression.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.system import BenchmarkFailed, wait_until_quiet
from demo.provider.scripts import script_for
from tests.browser import people
from tests.browser_binary import FLAGS, ensure_browser
from tests.system import System

_PROBE = """
([head, tail]) => {
  const state = window.__probe = {sent: null, first: null, end: null};
  let dirty = false;
  new MutationObserver(() => { dirty = true; })
    .observe(document.body, {subtree: true, childList: true, characterData: true});
  addEventListener("keydown", (event) => {
    if (event.key === "Enter" && state.sent === null) state.sent = performance.now();
  }, true);
  const look = () => {
    if (state.sent !== null && dirty) {
      dirty = false;
      const text = document.body.textContent;
      const now = performance.now();
      if (state.first === null && text.includes(head)) state.first = now;
      if (text.includes(tail)) { state.end = now; return; }
    }
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}
"""


class Frames:
    """Counts what the page's websockets bring, from the protocol's own events."""

    def __init__(self, page: Page) -> None:
        self.bytes = 0
        self.frames = 0
        session = page.context.new_cdp_session(page)
        session.on("Network.webSocketFrameReceived", self._received)
        session.send("Network.enable")

    def _received(self, event: dict[str, Any]) -> None:
        response = event["response"]
        data = response["payloadData"]
        size = len(data.encode()) if response["opcode"] == 1 else len(base64.b64decode(data))
        self.bytes += size
        self.frames += 1


def open_chat(browser: Browser, system: System, name: str, *, consent: bool) -> Page:
    """A new chat in a browser of its own, signed in."""
    page = people.open_context(browser).new_page()
    page.goto(system.url)
    people.sign_in(page, name)
    people.expect_dashboard(page)
    people.cookie_is_set(page)
    people.open_al_chat(page, system, consent=consent)
    return page


def answer(
    browser: Browser, system: System, name: str, words: int, ms: int, *, consent: bool = False
) -> dict[str, Any]:
    """One answer of `stream-<words>-<ms>` on the chat page. Raises BenchmarkFailed."""
    model = f"stream-{words}-{ms}"
    text = script_for(model).text
    page = open_chat(browser, system, name, consent=consent)
    try:
        people.choose_model(page, model)
        page.wait_for_timeout(1000)
        frames = Frames(page)
        page.evaluate(_PROBE, [" ".join(text.split()[:2]), text.split("\n\n")[-1]])
        before = frames.bytes
        people.ask(page, "Go on.")
        ideal = (words - 1) * ms / 1000
        end = time.monotonic() + 4 * ideal + 30
        while page.evaluate("window.__probe.end") is None:
            if time.monotonic() > end:
                shown = page.inner_text("body")[-600:]
                raise BenchmarkFailed(f"{words} words did not arrive; the page shows: {shown}")
            page.wait_for_timeout(500)
        page.wait_for_timeout(300)
        probe = page.evaluate("window.__probe")
        if " ".join(text.split()) not in " ".join(page.inner_text("body").split()):
            raise BenchmarkFailed(f"the page does not show all of the {words} words in order")
    finally:
        page.context.close()
    return {
        "words": words,
        "intervalMs": ms,
        "idealS": ideal,
        "wallS": (probe["end"] - probe["sent"]) / 1000,
        "stretch": (probe["end"] - probe["sent"]) / 1000 / ideal,
        "firstWordMs": probe["first"] - probe["sent"],
        "bytes": frames.bytes - before,
        "textBytes": len(text),
    }


def answers(
    system: System, name: str, plan: Sequence[tuple[int, int, int]]
) -> list[dict[str, Any]]:
    """Words, milliseconds and repetitions of each answer; the first one warms up and is dropped."""
    with chromium() as browser:
        answer(browser, system, name, 100, 2, consent=True)
        found = []
        for words, ms, repetitions in plan:
            for _ in range(repetitions):
                busy = wait_until_quiet()
                found.append(answer(browser, system, name, words, ms) | {"busyBefore": busy})
        return found


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=ensure_browser(), args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()
