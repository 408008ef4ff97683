"""What strangers do at the door besides logging in: use a link, sign up, ask for a new password."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from papita_core.actors import Actor
from papita_core.errors import SignInRefused
from papita_core.users.service import User
from portal.door.sign_up import ANSWERS
from portal.wiring import Services
from tests.portal.conftest import PASSWORD
from tests.portal.test_administration import press
from tests.portal.test_door import HOME, TIMEOUT, only_the_form, signed_in

OPERATOR = Actor.operator()
NEW = "an unlikely barn door"


def at_door(**query: str) -> AppTest:
    app = AppTest.from_file(HOME, default_timeout=TIMEOUT)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception
    return app


def fill(app: AppTest, prefix: str, **values: str) -> None:
    for name, value in values.items():
        app.text_input(key=f"{prefix}_{name}").set_value(value)


def token_of(url: str) -> str:
    return url.rpartition("=")[2]


def written(app: AppTest) -> str:
    parts = [*app.title, *app.markdown, *app.error, *app.success, *app.info]
    return "\n".join(part.value for part in parts).replace("\\", "")


def test_an_invitation_makes_an_account_and_logs_in(services: Services, ana: User) -> None:
    token = token_of(services.papita.links.invite(OPERATOR, role="guest", email="b@x.org").url)
    app = at_door(invite=token)
    assert "invited as a **guest**" in written(app)
    assert not app.sidebar.children
    fill(app, "link", username="ana", displayName="Ben Ode", password="short", repeat="short")
    press(app, "link_use")
    assert "at least 10 characters" in written(app)
    fill(app, "link", password=NEW, repeat="something else")
    press(app, "link_use")
    assert "not the same" in written(app)
    fill(app, "link", repeat=NEW)
    press(app, "link_use")
    assert "name or e-mail already" in written(app)
    fill(app, "link", username="ben")
    press(app, "link_use")
    assert app.title[0].value == "Hello, Ben Ode"
    assert "invite" not in app.query_params
    assert NEW not in repr(app.session_state.to_dict())
    ben = services.papita.users.listed(OPERATOR, "ben")
    assert (ben.role, ben.email) == ("guest", "b@x.org")
    (session,) = services.papita.sessions.of_user(ben.id)
    assert (session.method, session.remember) == ("invitation", False)


@pytest.mark.parametrize("kind", ["invite", "reset"])
def test_a_link_that_does_not_serve_says_what_to_do(
    kind: str, services: Services, ana: User
) -> None:
    app = at_door(**{kind: "made-up"})
    assert app.title[0].value == "This link does not work"
    assert "ask an administrator" in written(app)
    assert not app.text_input
    press(app, "link_leave")
    only_the_form(app)
    assert kind not in app.query_params


def test_a_used_and_a_revoked_invitation_say_so(services: Services, ana: User) -> None:
    links = services.papita.links
    token = token_of(links.invite(OPERATOR).url)
    links.accept(token, username="ben", password=NEW)
    assert "used already" in written(at_door(invite=token))
    other = token_of(links.invite(OPERATOR).url)
    open_page = at_door(invite=other)
    links.revoke(OPERATOR, links.invitations(OPERATOR)[0].id)
    fill(open_page, "link", username="eve", password=NEW, repeat=NEW)
    press(open_page, "link_use")
    assert "taken back" in written(open_page)
    assert services.papita.users.by_username("eve") is None


def test_a_reset_link_sets_the_password_and_logs_nobody_in(services: Services, ana: User) -> None:
    session = services.papita.sessions.start(ana.id).session
    token = token_of(services.papita.links.reset_link(OPERATOR, "ana").url)
    app = at_door(reset=token)
    assert "For **Ana**" in written(app)
    fill(app, "link", password="password123", repeat="password123")
    press(app, "link_use")
    assert services.papita.sessions.by_id(session.id) is not None
    fill(app, "link", password=NEW, repeat=NEW)
    press(app, "link_use")
    assert "Your password is set. Log in with it." in written(app)
    assert [field.label for field in app.text_input] == ["Username", "Password"]
    assert NEW not in repr(app.session_state.to_dict())
    assert services.papita.sessions.of_user(ana.id) == []
    assert services.papita.sign_in.authenticate("ana", NEW)
    with pytest.raises(SignInRefused):
        services.papita.sign_in.authenticate("ana", PASSWORD)


def test_whoever_is_logged_in_is_asked_before_a_link_is_used(services: Services, ana: User) -> None:
    token = token_of(services.papita.links.invite(OPERATOR).url)
    app, _ = signed_in(services, ana)
    app.query_params["invite"] = token
    app.run()
    assert app.title[0].value == "You are logged in already"
    press(app, "link_leave")
    assert app.title[0].value == "Hello, Ana"
    app.query_params["invite"] = token
    app.run()
    press(app, "log_out")
    assert app.title[0].value == "Welcome to Papita"


# --- signing up ---


def labels(app: AppTest) -> list[str]:
    return [button.label for button in app.button]


def sign_up(app: AppTest, name: str, **more: str) -> str:
    press(app, "door_sign_up")
    fill(app, "sign_up", username=name, password=NEW, repeat=NEW, **more)
    press(app, "sign_up_send")
    assert NEW not in repr(app.session_state.to_dict())
    return app.success[0].value


def test_nobody_signs_up_unless_it_is_allowed(services: Services, ana: User) -> None:
    app = at_door()
    assert "Create an account" not in labels(app)
    services.papita.policies.put(OPERATOR, "sign-up", "open")
    app.run()
    press(app, "door_sign_up")
    services.papita.policies.put(OPERATOR, "sign-up", "closed")
    fill(app, "sign_up", username="eve", password=NEW, repeat=NEW)
    press(app, "sign_up_send")
    assert "Ask an administrator for an invitation" in written(app)
    assert services.papita.users.by_username("eve") is None


@pytest.mark.parametrize("policy", ["open", "approval"])
def test_a_taken_name_gets_the_same_words_as_a_free_one(
    policy: str, services: Services, ana: User
) -> None:
    services.papita.policies.put(OPERATOR, "sign-up", policy)
    said = {sign_up(at_door(), name) for name in ("ana", "eve")}
    assert said == {ANSWERS[policy]}
    assert services.papita.users.listed(OPERATOR, "eve").role == "member"
    with pytest.raises(SignInRefused):
        services.papita.sign_in.authenticate("ana", NEW)


def test_what_was_typed_stays_where_something_is_wrong(services: Services, ana: User) -> None:
    services.papita.policies.put(OPERATOR, "sign-up", "open")
    app = at_door()
    press(app, "door_sign_up")
    fill(app, "sign_up", username="e v e", email="nonsense", password=NEW, repeat=NEW)
    press(app, "sign_up_send")
    assert "This is not an e-mail address" in written(app)
    assert "1 to 64 letters" in written(app)
    assert app.text_input(key="sign_up_username").value == "e v e"
    press(app, "door_back")
    assert app.title[0].value == "Log in to Papita"


# --- forgotten ---


def test_a_name_that_nobody_has_gets_the_same_words(services: Services, ana: User) -> None:
    said = []
    for name in ("ANA", "nobody", "nobody@example.org"):
        app = at_door()
        press(app, "door_forgotten")
        app.text_input(key="forgotten_name").set_value(name)
        next(button for button in app.button if button.label == "Ask for a link").click().run()
        assert not app.exception
        said.append(written(app))
    assert len(set(said)) == 1
    assert "Your request is noted." in said[0]
    assert services.papita.users.listed(OPERATOR, "ana").reset_asked_at is not None
    assert services.papita.users.counts(OPERATOR).reset_asked == 1


def test_too_many_requests_are_refused_in_words(services: Services, ana: User) -> None:
    for _ in range(3):
        services.papita.sign_up.forgotten("ana")
    app = at_door()
    press(app, "door_forgotten")
    app.text_input(key="forgotten_name").set_value("ana")
    next(button for button in app.button if button.label == "Ask for a link").click().run()
    assert "Too many attempts" in app.error[0].value
