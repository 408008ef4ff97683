"""Answers on the real chat page in headless Chromium, timed by a probe inside the page.

The probe looks after every change of the document, in the next animation frame, so what it calls
finished has been drawn; Playwright's own waits poll too slowly for that. Bytes are the payloads of
the websocket's frames as the browser's network layer reports them, before compression.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.system import System, User
from demo.provider.scripts import script_for

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

_PROBE = """
([head, tail]) => {
  const state = window.__probe = {sent: null, first: null, end: null};
  const flat = () => document.body.textContent.replace(/\\s+/g, " ");
  let dirty = false;
  new MutationObserver(() => { dirty = true; })
    .observe(document.body, {subtree: true, childList: true, characterData: true});
  addEventListener("keydown", (event) => {
    if (event.key === "Enter" && state.sent === null) state.sent = performance.now();
  }, true);
  const look = () => {
    if (state.sent !== null && dirty) {
      dirty = false;
      const text = flat();
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


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """The installed Chromium where there is one, else the one that Playwright brought."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


def sign_in(page: Page, system: System, user: User) -> None:
    page.goto(system.portal_url)
    page.get_by_label("Username", exact=True).fill(user.name)
    page.get_by_label("Password", exact=True).fill(user.password)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("button", name="Open AL-Chat").wait_for(timeout=30_000)


def open_chat(page: Page, system: System) -> None:
    page.goto(f"{system.portal_url}/al-chat")
    page.get_by_placeholder("Message AL-Chat").wait_for(timeout=30_000)
    page.wait_for_timeout(700)


def answer(browser: Browser, system: System, user: User, words: int, ms: int) -> dict[str, Any]:
    """One answer of AL-Chat's default model, which has to be `stream-<words>-<ms>`."""
    script = script_for(f"stream-{words}-{ms}")
    paragraphs = script.text.split("\n\n")
    head = " ".join(script.text.split()[:2])
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    try:
        page = context.new_page()
        sign_in(page, system, user)
        open_chat(page, system)
        frames = Frames(page)
        page.evaluate(_PROBE, [head, paragraphs[-1]])
        box = page.get_by_placeholder("Message AL-Chat")
        box.fill("Go on.")
        before = frames.bytes
        box.press("Enter")
        ideal = (words - 1) * ms / 1000
        end = time.monotonic() + 4 * ideal + 30
        while page.evaluate("window.__probe.end") is None:
            if time.monotonic() > end:
                shown = page.inner_text("body")[-600:]
                raise TimeoutError(f"{words} words did not arrive; the page shows: {shown}")
            page.wait_for_timeout(500)
        page.wait_for_timeout(300)
        probe = page.evaluate("window.__probe")
        shown_text = " ".join(page.inner_text("body").split())
        if " ".join(script.text.split()) not in shown_text:
            raise ValueError(f"the page does not show all of the {words} words in order")
    finally:
        context.close()
    return {
        "words": words,
        "intervalMs": ms,
        "idealS": ideal,
        "wallS": (probe["end"] - probe["sent"]) / 1000,
        "stretch": (probe["end"] - probe["sent"]) / 1000 / ideal,
        "firstWordMs": probe["first"] - probe["sent"],
        "bytes": frames.bytes - before,
        "textBytes": len(script.text),
    }


def main() -> int:
    """Reads a job from standard input and prints its result, as benchmarks.load does."""
    job = json.load(sys.stdin)
    system = System(
        **{name: job[name] for name in ("portal_url", "alchat_url", "provider_url")},
        folder=job["folder"],
        environment=dict(os.environ),
    )
    user = User(**job["user"])
    with chromium() as browser:
        result = [
            answer(browser, system, user, job["words"], job["ms"]) for _ in range(job["runs"])
        ]
    json.dump(result, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
