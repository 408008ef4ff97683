"""The sign-in form: how long one stays, who has to show more, and proving oneself again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from streamlit.testing.v1 import AppTest

from papita_core.errors import SignInRefused
from papita_core.users.models import Passkey, SessionRow, UserRow
from papita_core.users.service import User
from portal.wiring import Services
from tests.portal.conftest import PASSWORD, browser_request
from tests.portal.test_door import HOME, TIMEOUT, signed_in

TOKENS = "pages/account/access_tokens.py"


def log_in(name: str = "ana", *, keep: bool = False, password: str = PASSWORD) -> AppTest:
    app = AppTest.from_file(HOME, default_timeout=TIMEOUT).run()
    app.text_input[0].set_value(name)
    app.text_input[1].set_value(password)
    if keep:
        app.checkbox[0].check()
    return app.button[0].click().run()


def change(services: Services, user: User, **values: object) -> None:
    with services.papita.database.write() as session:
        row = session.get(UserRow, user.id)
        assert row is not None
        for name, value in values.items():
            setattr(row, name, value)


@pytest.mark.parametrize("keep", [True, False])
def test_keep_me_signed_in_is_a_choice(services: Services, ana: User, keep: bool) -> None:
    app = log_in(keep=keep)
    assert app.title[0].value == "Hello, Ana"
    (session,) = services.papita.sessions.of_user(ana.id)
    assert session.remember is keep
    life = session.expires_at - session.created_at
    assert life == (timedelta(days=14) if keep else timedelta(hours=12))


def test_an_e_mail_signs_in(services: Services, ana: User) -> None:
    change(services, ana, email="Ana@Example.org", email_key="ana@example.org")
    assert log_in("ANA@example.org").title[0].value == "Hello, Ana"


def test_who_waits_for_approval_learns_it_after_the_right_password_alone(
    services: Services, ana: User
) -> None:
    change(services, ana, awaits_approval_since=datetime.now(UTC))
    assert "not right" in log_in(password="something else").error[0].value
    app = log_in()
    assert "approve" in app.error[0].value
    assert [field.label for field in app.text_input] == ["Username", "Password"]


def test_too_many_attempts_are_told_when_to_try_again(services: Services, ana: User) -> None:
    for _ in range(5):
        app = log_in(password="wrong")
    app = log_in()
    assert app.error[0].value.startswith("Too many attempts. Try again in 5 minutes")
    assert not services.papita.sessions.of_user(ana.id)


def with_passkey(services: Services, user: User) -> None:
    with services.papita.database.write() as session:
        session.add(
            Passkey(
                id="p",
                user_id=user.id,
                credential_id="c",
                public_key=b"k",
                sign_count=0,
                name="Key",
                created_at=datetime.now(UTC),
            )
        )


def test_the_password_alone_lets_nobody_in_who_has_a_second_factor(
    services: Services, ana: User
) -> None:
    with_passkey(services, ana)
    app = log_in(keep=True)
    step = app.session_state["papita_tab"].second_step
    assert (step.user_id, step.kinds, step.remember) == (ana.id, ("passkey",), True)
    assert not services.papita.sessions.of_user(ana.id)
    for page in ("", TOKENS):
        app = app.switch_page(page).run() if page else app.run()
        assert not app.sidebar.children
        assert "Hello, Ana" not in [title.value for title in app.title]
    # Whoever waits too long begins anew.
    step.until = 0
    app.run()
    assert [field.label for field in app.text_input] == ["Username", "Password"]
    assert PASSWORD not in repr(app.session_state.to_dict())


# --- proving oneself again ---


def long_ago(services: Services, session_id: str) -> None:
    with services.papita.database.write() as session:
        row = session.get(SessionRow, session_id)
        assert row is not None
        row.proved_at = datetime.now(UTC) - timedelta(minutes=6)


def asked(services: Services, ana: User) -> tuple[AppTest, str]:
    """Somebody at a tab that was opened a while ago wants an access token."""
    app, session_id = signed_in(services, ana)
    long_ago(services, session_id)
    app.switch_page(TOKENS).run()
    next(button for button in app.button if button.label == "Create token").click().run()
    return app, session_id


def confirm(app: AppTest, password: str) -> str:
    """What the dialog then says is wrong. AppTest knows no fragments, and has closed it."""
    app.text_input(key="proof_password").set_value(password)
    next(button for button in app.button if button.label == "Confirm").click().run()
    said: str = app.session_state["papita_tab.portal.proof.Waiting"].problem
    return said


def test_an_access_token_needs_the_password_once_more(services: Services, ana: User) -> None:
    app, session_id = asked(services, ana)
    assert "Create" not in [button.label for button in app.button]
    assert "not right" in confirm(app, "wrong")
    next(button for button in app.button if button.label == "Create token").click().run()
    assert confirm(app, PASSWORD) == ""
    # Now it goes on with what was wanted.
    assert "Create" in [button.label for button in app.button]
    session = services.papita.sessions.by_id(session_id)
    assert session is not None
    # The browser is on its way to get a fresh handle.
    assert session.renewing
    assert app.session_state["papita_tab"].errand.ticket
    assert PASSWORD not in repr(app.session_state.to_dict())


def test_guesses_at_an_open_tab_are_limited_as_well(services: Services, ana: User) -> None:
    app, session_id = asked(services, ana)
    for _ in range(5):
        with pytest.raises(SignInRefused):
            services.papita.sign_in.authenticate("ana", "wrong", purpose="proof")
    assert confirm(app, PASSWORD).startswith("Too many attempts")
    session = services.papita.sessions.by_id(session_id)
    assert session is not None
    assert not session.renewing


def test_who_has_no_password_is_not_asked_for_one(services: Services, ana: User) -> None:
    change(services, ana, password_hash="")
    app, _ = asked(services, ana)
    assert not app.text_input
    assert any("Log out and log in again" in text.value for text in app.markdown)


def test_rights_raised_in_one_tab_are_not_those_of_a_tab_of_before(
    services: Services, ana: User
) -> None:
    """Attack: a stolen cookie opens a tab, and its owner proves who they are in another one."""
    other, session_id = signed_in(services, ana)
    long_ago(services, session_id)
    ticket = services.papita.sessions.prove(session_id)
    handle, _ = services.papita.sessions.redeem(ticket)
    other.switch_page(TOKENS).run()
    next(button for button in other.button if button.label == "Create token").click().run()
    # It stays signed in, and is asked.
    assert [field.key for field in other.text_input] == ["proof_password"]
    with browser_request(papita_session=handle):
        app = AppTest.from_file(HOME, default_timeout=TIMEOUT).run()
    app.switch_page(TOKENS).run()
    next(button for button in app.button if button.label == "Create token").click().run()
    assert "proof_password" not in [field.key for field in app.text_input]
