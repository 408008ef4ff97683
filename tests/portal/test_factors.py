"""Whoever owes a second factor sees its set-up and nothing else; secrets stay out of the tab."""

from __future__ import annotations

import re

import pytest
from streamlit.testing.v1 import AppTest

from papita_core.actors import Actor
from papita_core.users.service import User
from portal.navigation import PAGES
from portal.wiring import ROOT, Services
from tests.portal.conftest import PASSWORD
from tests.portal.test_door import HOME, TIMEOUT, signed_in

CHOICES = ["Add passkey", "Set up app"]


def labels(app: AppTest) -> list[str]:
    return [button.label for button in app.button]


@pytest.fixture
def restricted(services: Services, ana: User) -> AppTest:
    services.papita.policies.put(Actor.operator(), "second-factor", "administrators")
    app, _ = signed_in(services, ana)
    return app


@pytest.mark.parametrize("entry", PAGES, ids=lambda entry: entry.name)
def test_whoever_owes_a_factor_sees_its_set_up_and_no_page(entry, restricted: AppTest) -> None:  # type: ignore[no-untyped-def]
    app = restricted if not entry.path else restricted.switch_page(entry.file).run()
    assert not app.exception
    assert [title.value for title in app.title] == ["Set up a second factor"]
    assert [label for label in labels(app) if label != "Log out"] == CHOICES


@pytest.mark.parametrize("entry", PAGES, ids=lambda entry: entry.name)
def test_a_page_without_home_does_not_open_for_them_either(  # type: ignore[no-untyped-def]
    entry, services: Services, ana: User
) -> None:
    services.papita.policies.put(Actor.operator(), "second-factor", "administrators")
    session = services.papita.sessions.start(ana.id).session
    assert session.restricted
    app = AppTest.from_file(str(ROOT / entry.file), default_timeout=TIMEOUT)
    signed, _ = signed_in(services, ana)
    app.session_state["papita_tab"] = signed.session_state["papita_tab"]
    app.run()
    assert not app.exception
    assert len(app.error) == 1
    assert "You may not open this page" in app.error[0].value


def test_the_secret_of_an_app_is_on_the_screen_and_not_in_the_tab(
    services: Services, ana: User
) -> None:
    app, _ = signed_in(services, ana)
    app.session_state["profile_section"] = "security"
    app.switch_page("pages/account/profile.py").run()
    app.button(key="factors_app").click().run()
    assert not app.exception
    shown = app.code[0].value.replace(" ", "")
    assert re.fullmatch(r"[A-Z2-7]{32}", shown)
    assert shown not in repr(app.session_state.to_dict())
    assert shown not in repr(app.session_state["papita_tab"])


def test_the_password_alone_opens_nothing_to_whoever_has_a_second_factor(
    services: Services, ana: User
) -> None:
    actor = Actor.for_session(services.papita.sessions.start(ana.id).session)
    pending = services.papita.totp.begin(actor)
    with services.papita.database.write() as session:
        session.connection().exec_driver_sql("UPDATE totp_devices SET confirmed_at = created_at")
    before = len(services.papita.sessions.of_user(ana.id))
    app = AppTest.from_file(HOME, default_timeout=TIMEOUT).run()
    app.text_input[0].set_value("ana")
    app.text_input[1].set_value(PASSWORD)
    app.button[0].click().run()
    assert not app.exception
    assert app.title[0].value == "One more step"
    assert len(services.papita.sessions.of_user(ana.id)) == before
    assert not app.sidebar.children
    assert PASSWORD not in repr(app.session_state.to_dict())
    assert pending.secret not in repr(app.session_state.to_dict())
    app.text_input(key="second_step_totp").set_value("000")
    app.button[0].click().run()
    assert "not right" in app.error[0].value
    assert app.text_input(key="second_step_totp").value == ""
    assert len(services.papita.sessions.of_user(ana.id)) == before
    app.button(key="second_step_back").click().run()
    assert app.title[0].value == "Log in to Papita"
