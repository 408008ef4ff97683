"""What the browser tests share: one context for a file, and the patience of a busy machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from tests.browser.people import SECONDS, open_context

expect.set_options(timeout=20 * SECONDS)


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = open_context(browser)
    yield made
    made.close()
