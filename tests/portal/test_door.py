"""Nobody gets past the door: every page, first thing on a fresh process, shows the sign-in form."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from papita_core.users.service import User
from portal.navigation import PAGES
from portal.wiring import ROOT, Services
from tests.portal.conftest import PASSWORD, browser_request

HOME = str(ROOT / "Home.py")
TIMEOUT = 20


def only_the_form(app: AppTest) -> None:
    assert not app.exception
    assert [field.label for field in app.text_input] == ["Username", "Password"]
    assert [button.label for button in app.button] == ["Log in", "Forgotten your password?"]
    assert not app.sidebar.children


def signed_in(services: Services, user: User) -> tuple[AppTest, str]:
    new = services.papita.sessions.start(user.id)
    handle, session = services.papita.sessions.redeem(new.ticket)
    with browser_request(papita_session=handle):
        app = AppTest.from_file(HOME, default_timeout=TIMEOUT).run()
    return app, session.id


@pytest.mark.parametrize("entry", PAGES, ids=lambda entry: entry.name)
def test_a_stranger_sees_the_form_and_nothing_else(entry, ana: User) -> None:  # type: ignore[no-untyped-def]
    app = AppTest.from_file(HOME, default_timeout=TIMEOUT).run()
    only_the_form(app)
    if entry.path:
        only_the_form(app.switch_page(entry.file).run())


@pytest.mark.parametrize("entry", PAGES, ids=lambda entry: entry.name)
def test_a_page_without_home_shows_nothing(entry, ana: User) -> None:  # type: ignore[no-untyped-def]
    app = AppTest.from_file(str(ROOT / entry.file), default_timeout=TIMEOUT).run()
    assert not app.exception
    assert [box.value for box in app.info] == ["Sign in first: open the portal's start page."]
    assert not app.button
    assert not app.text_input
    assert not app.markdown


def test_wrong_password_and_wrong_name_get_the_same_words(ana: User) -> None:
    said = []
    for name, password in (("ana", "wrong"), ("nobody", "wrong")):
        app = AppTest.from_file(HOME, default_timeout=TIMEOUT).run()
        app.text_input[0].set_value(name)
        app.text_input[1].set_value(password)
        app.button[0].click().run()
        said.append(app.error[0].value)
    assert said[0] == said[1]


def test_sign_in_starts_a_session_and_sign_out_ends_it(services: Services, ana: User) -> None:
    app = AppTest.from_file(HOME, default_timeout=TIMEOUT).run()
    app.text_input[0].set_value(" Ana ")
    app.text_input[1].set_value(PASSWORD)
    app.button[0].click().run()
    assert not app.exception
    assert app.title[0].value == "Hello, Ana"
    (session,) = services.papita.sessions.of_user(ana.id)
    errand = app.session_state["papita_tab"].errand
    assert errand.ticket not in repr(app.session_state["papita_tab"])
    app.button(key="log_out").click().run()
    only_the_form(app)
    assert services.papita.sessions.by_id(session.id) is None
    assert PASSWORD not in repr(app.session_state.to_dict())


def test_a_cookie_opens_the_portal_and_an_ended_session_closes_it(
    services: Services, ana: User
) -> None:
    app, session_id = signed_in(services, ana)
    assert app.title[0].value == "Hello, Ana"
    services.papita.sessions.end(session_id)
    only_the_form(app.run())


@pytest.mark.parametrize("value", ["", "nonsense", "x" * 5000, "\x00"])
def test_a_made_up_cookie_opens_nothing(value: str, ana: User) -> None:
    with browser_request(papita_session=value):
        only_the_form(AppTest.from_file(HOME, default_timeout=TIMEOUT).run())


def test_set_up_takes_the_code_once_and_keeps_what_was_typed(new_services: Services) -> None:
    services = new_services
    code = services.papita.setup.issue_code()
    app = AppTest.from_file(HOME, default_timeout=TIMEOUT)
    app.query_params["setup"] = code
    app.run()
    assert app.text_input(key="setup_code").value == code
    app.text_input(key="setup_username").set_value("ana")
    app.text_input(key="setup_password").set_value(PASSWORD)
    app.text_input(key="setup_repeat").set_value("something else")
    app.button[0].click().run()
    assert "not the same" in app.markdown[-1].value
    assert app.text_input(key="setup_username").value == "ana"
    assert services.papita.setup.pending()
    app.text_input(key="setup_repeat").set_value(PASSWORD)
    app.button[0].click().run()
    assert not app.exception
    assert app.title[0].value == "Hello, ana"
    assert "setup" not in app.query_params
    assert not services.papita.setup.pending()
    assert PASSWORD not in repr(app.session_state.to_dict())
