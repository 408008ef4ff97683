"""Reading a `.env` file on the page: what is offered, what is left out, and nothing that stays."""

from __future__ import annotations

import gc
from concurrent.futures import wait

import pytest
from streamlit.testing.v1 import AppTest

from papita_core.users.service import User
from papita_core.vault.importing import Candidate, read_env
from portal import env_import
from portal.env_import import HELD, TEXT, Held
from portal.wiring import Services
from tests.portal.test_credentials_page import PAGE, acting, labels, press, texts
from tests.portal.test_door import signed_in

FIRST = "sk-demo-canary-0123456789abcdef"
SECOND = "gsk_" + "canary0123456789abcdef"
# Neither address is a global one, so each test is refused at once and asks nobody.
LINES = f"""\
# the keys of the team
OPENAI_API_KEY={FIRST}
OPENAI_BASE_URL=https://10.0.0.1/v1
VLLM_API_KEY={SECOND}
VLLM_BASE_URL=https://10.0.0.2/v1
DATABASE_URL=postgres://canary-password@host/db
this is no line
"""


@pytest.fixture
def page(services: Services, ana: User) -> AppTest:
    app, _ = signed_in(services, ana)
    app.switch_page(PAGE).run()
    return app


def read(app: AppTest, text: str) -> AppTest:
    press(app, "Import .env")
    app.text_area(key=TEXT).set_value(text)
    press(app, "Import .env", "Read")
    assert not app.exception
    return after_tests(app)


def after_tests(app: AppTest) -> AppTest:
    """Once the tests have ended; the page itself looks for that twice a second."""
    if HELD in app.session_state:
        wait(app.session_state[HELD].tests)
    return press(app, "Import .env")


def in_memory() -> list[Candidate]:
    gc.collect()
    return [it for it in gc.get_objects() if isinstance(it, Candidate)]


def test_keys_are_recognised_tested_chosen_and_stored_in_one_go(
    page: AppTest, services: Services, ana: User
) -> None:
    read(page, LINES)
    shown = texts(page)
    assert [box.label for box in page.checkbox] == ["**OpenAI** `••••cdef`", "**vLLM** `••••cdef`"]
    assert "Line 2, `OPENAI_API_KEY` at `https://10.0.0.1/v1`" in shown
    assert shown.count("Address refused") == 2
    # What its provider rejects, or must not be asked about, is not chosen for the user.
    assert [box.value for box in page.checkbox] == [False, False]
    assert "Choose a key" in labels(page)
    assert "- Line 6, `DATABASE_URL`: It is no key that is known here." in shown
    assert "- Line 7: This line cannot be read." in shown
    page.checkbox(key="env_import_take_0").check()
    press(page, "Import .env")
    press(page, "Import .env", "Store 1 key")
    (stored,) = services.papita.credentials.list(acting(ana)).items
    assert (stored.label, stored.base_url) == ("OpenAI", "https://10.0.0.1/v1")
    assert stored.status == "refused"
    assert not page.checkbox


def test_a_key_that_is_stored_already_is_named_and_not_chosen(
    page: AppTest, services: Services, ana: User
) -> None:
    (candidate, _) = read_env(LINES).candidates
    services.papita.credentials.create_many(acting(ana), [candidate.new()])
    read(page, LINES)
    assert "You have stored this key already." in texts(page)


def test_nothing_that_was_pasted_stays_in_the_session(page: AppTest) -> None:
    others = [id(it) for it in in_memory()]
    read(page, LINES)
    assert TEXT not in page.session_state
    for secret in (FIRST, SECOND, "canary-password"):
        assert secret not in repr(page.session_state.to_dict())
        assert secret not in texts(page)
    held = page.session_state[HELD]
    page.checkbox(key="env_import_take_0").check()
    press(page, "Import .env")
    press(page, "Import .env", "Store 1 key")
    assert HELD not in page.session_state
    assert held.candidates == []
    assert [it.name for it in in_memory() if id(it) not in others] == []


def test_what_cannot_be_read_says_so(page: AppTest) -> None:
    read(page, "   ")
    assert "Paste some lines, or choose a file." in texts(page)
    read(page, "just words")
    assert "No key was recognised" in texts(page)
    assert not any(label.startswith("Store") for label in labels(page))


def test_a_file_can_be_chosen_instead(page: AppTest) -> None:
    press(page, "Import .env")
    page.file_uploader(key="env_import_file").upload(".env", LINES.encode())
    press(page, "Import .env")
    assert len(after_tests(page).checkbox) == 2
    assert not page.exception


def test_a_file_that_is_no_text_says_so(page: AppTest) -> None:
    press(page, "Import .env")
    page.file_uploader(key="env_import_file").upload("keys.bin", b"\xff\xfe\x00")
    press(page, "Import .env")
    assert "This file is not text in UTF-8" in texts(page)


def test_keys_are_forgotten_when_the_time_is_up(
    page: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(env_import, "HOLD_SECONDS", 0.0)
    read(page, LINES)
    held: Held = page.session_state[HELD]
    held._timer.join()
    press(page, "Import .env")
    assert "Ten minutes have passed" in texts(page)
    assert held.candidates == []
    assert not page.checkbox
