"""How soon the pages are there, and how soon they react, in headless Chromium; a page with nothing
but an input, served by Streamlit itself, in turn with them, tells how fast the machine is then.

A probe inside the page notes the animation frame in which what was waited for is drawn;
Playwright's own waits poll too slowly for that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Browser, Page

from alchat_core.db.engine import Database
from benchmarks import history
from benchmarks.browser import Frames
from benchmarks.system import Bench, BenchmarkFailed, User, wait_until_quiet
from demo.provider.scripts import script_for
from tests.browser import people

TIMES = 5
MESSAGES_SENT = 12
LONG = 2_000
_THUMBS = (("Good answer", "What was good?"), ("Bad answer", "What was wrong?"))
COMPOSER = 'textarea[placeholder="Message AL-Chat"]'

# Notes the first frame in which an element that fits is drawn.
_READY = """
(selector) => {
  window.__ready = null;
  const look = () => {
    const found = document.querySelector(selector);
    if (found && found.getClientRects().length) { window.__ready = performance.now(); return; }
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}
"""
# From now on: when the first `words` of the answer to that question stand on the page, and the
# longest wait between two frames until its `tail` does.
_COUNT = """
([question, words, tail]) => {
  const state = window.__count = {sent: null, first: null, end: null, gap: 0};
  const has = (part) => {
    const all = [...document.querySelectorAll('[data-testid="stChatMessage"]')];
    const at = all.findIndex((one) => one.textContent.includes(question));
    return at >= 0 && Boolean(all[at + 1]?.textContent.includes(part));
  };
  addEventListener("keydown", (event) => {
    if (event.key === "Enter" && state.sent === null) state.sent = performance.now();
  }, true);
  let dirty = false, last = performance.now();
  new MutationObserver(() => { dirty = true; })
    .observe(document.body, {subtree: true, childList: true, characterData: true});
  const look = (now) => {
    if (state.first !== null) state.gap = Math.max(state.gap, now - last);
    last = now;
    if (state.sent !== null && dirty) {
      dirty = false;
      if (state.first === null && has(words)) state.first = performance.now();
      if (has(tail)) { state.end = performance.now(); return; }
    }
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}
"""
# A click on FOUND, and the frame in which `selector` is there: in the page, or in the bar that
# was clicked, which has a tree of its own.
_CLICK = """
(selector) => {
  window.__click = null;
  const button = FOUND;
  const begin = performance.now();
  button.click();
  const look = () => {
    const there = document.querySelector(selector) ?? button.getRootNode().querySelector(selector);
    if (there) { window.__click = performance.now() - begin; return; }
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}
"""
# The thumb in the bar below a message.
_THUMB = """
document.querySelector('[data-message="{message}"] > *')
  .shadowRoot.querySelector(`button[aria-label="{name}"]`)
"""


def measure(
    browser: Browser, system: Bench, cookie: str, conversation: str, last: str
) -> dict[str, Any]:
    """All figures of one user's pages; the long conversation is that of `write_long`."""
    return {
        **_ready(browser, system, cookie),
        "firstToken": _first_token(browser, system, cookie),
        "long": _long(browser, system, cookie, conversation, last),
    }


def _open(browser: Browser, system: Bench, cookie: str) -> Page:
    context = people.open_context(browser)
    context.add_cookies([{"name": "papita_session", "value": cookie, "url": system.url}])
    return context.new_page()


def _until(page: Page, expression: str, what: str, seconds: float = 30) -> Any:
    end = time.monotonic() + seconds
    while (value := page.evaluate(expression)) is None:
        if time.monotonic() > end:
            raise BenchmarkFailed(f"{what}: it did not come")
        page.wait_for_timeout(50)
    return value


def _shown(page: Page, selector: str, go: Callable[[], object]) -> float:
    """Milliseconds from the start of the navigation that `go` does."""
    page.add_init_script(f"({_READY})({selector!r})")
    go()
    return float(_until(page, "window.__ready", selector))


def _ready(browser: Browser, system: Bench, cookie: str) -> dict[str, dict[str, list[float]]]:
    ready: dict[str, list[float]] = {"cold": [], "newTab": [], "reload": [], "switch": []}
    bare: dict[str, list[float]] = {"cold": [], "newTab": [], "reload": []}
    with system.bare_page() as address:
        for _ in range(TIMES):
            _loads(browser, system, cookie, address, bare).context.close()
            tab = _loads(browser, system, cookie, f"{system.url}/al-chat", ready)
            for path, there in (("credentials", ".st-key-which_key"), ("al-chat", COMPOSER)):
                link = f'[data-testid="stSidebarNav"] a[href$="/{path}"]'
                tab.evaluate(_CLICK.replace("FOUND", f"document.querySelector({link!r})"), there)
                ready["switch"].append(float(_until(tab, "window.__click", path)))
                tab.wait_for_timeout(700)
            tab.context.close()
    return {"ready": ready, "bare": bare}


def _loads(
    browser: Browser, system: Bench, cookie: str, address: str, found: dict[str, list[float]]
) -> Page:
    """First with nothing cached, then in another tab, which is returned, then that one again."""
    wait_until_quiet(20)
    page = _open(browser, system, cookie)
    found["cold"].append(_shown(page, COMPOSER, lambda: page.goto(address)))
    tab = page.context.new_page()
    found["newTab"].append(_shown(tab, COMPOSER, lambda: tab.goto(address)))
    tab.wait_for_timeout(1000)
    found["reload"].append(_shown(tab, COMPOSER, tab.reload))
    tab.wait_for_timeout(1000)
    return tab


def _first_token(browser: Browser, system: Bench, cookie: str) -> dict[str, Any]:
    """Messages in one conversation of a page that is used; then one long answer for its frames."""
    page = _open(browser, system, cookie)
    page.goto(f"{system.url}/al-chat")
    page.wait_for_selector(COMPOSER)
    found: dict[str, Any] = {"firstMs": []}
    for number, (model, wanted) in enumerate(
        [("stream-20-20", MESSAGES_SENT), ("stream-1000-5", 3)]
    ):
        people.choose_model(page, model)
        text = script_for(model).text
        head, tail = " ".join(text.split()[:2]), text.split("\n\n")[-1]
        gaps = []
        for turn in range(wanted):
            page.wait_for_timeout(700)
            question = f"Go on, {number}-{turn}."
            page.evaluate(_COUNT, [question, head, tail])
            people.ask(page, question)
            taken = _until(page, "window.__count.end && window.__count", model)
            if number == 0 and turn:  # the first one makes the conversation
                found["firstMs"].append(taken["first"] - taken["sent"])
            gaps.append(taken["gap"])
        found["gapMs"] = gaps
    page.context.close()
    return found


def _long(
    browser: Browser, system: Bench, cookie: str, conversation: str, last: str
) -> dict[str, Any]:
    """A conversation of 2,000 messages: opening it, and a thumb under its last answer."""
    found: dict[str, Any] = {"openMs": [], "openBytes": [], "thumbMs": [], "thumbBytes": []}
    page = _open(browser, system, cookie)
    page.goto(system.url)
    page.wait_for_timeout(1500)
    frames = Frames(page)
    for turn in range(TIMES):
        before = frames.bytes
        bubble = f'[data-message="{last}"]'
        found["openMs"].append(
            _shown(
                page, bubble, lambda: page.goto(f"{system.url}/al-chat?conversation={conversation}")
            )
        )
        page.wait_for_timeout(2500)
        found["openBytes"].append(frames.bytes - before)
        before = frames.bytes
        name, asked = _THUMBS[turn % 2]
        thumb = _THUMB.replace("{message}", last).replace("{name}", name).strip()
        page.evaluate(_CLICK.replace("FOUND", thumb), f'input[aria-label="{asked}"]')
        found["thumbMs"].append(float(_until(page, "window.__click", "thumb")))
        page.wait_for_timeout(700)
        found["thumbBytes"].append(frames.bytes - before)
    page.context.close()
    return found


def write_long(system: Bench, user: User) -> tuple[str, str]:
    """A conversation of 2,000 messages of that user; its id, and that of its last message."""
    (token,) = system.user_tokens([user])
    database = Database(system.alchat_database())
    return asyncio.run(history.write_one(database, history.owner_of(token), LONG))
