"""The Users page: finding, paging, changes behind a question and a proof, links kept nowhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from streamlit.testing.v1 import AppTest

from papita_core.actors import Actor
from papita_core.errors import LinkRefused
from papita_core.users.limits import Limit, Try
from papita_core.users.service import NewUser, User
from portal.session import KEY, Tab
from portal.users.people import PAGE_SIZE
from portal.wiring import Services
from tests.portal.conftest import PASSWORD
from tests.portal.test_administration import opened, press, texts

USERS = "pages/admin/users.py"
OPERATOR = Actor.operator()


def add(services: Services, name: str, display_name: str = "", **how: object) -> User:
    """Somebody who is there, and has no password: nobody here logs in with it."""
    with services.papita.database.write() as session:
        new = NewUser(name, PASSWORD, display_name)
        return services.papita.users.add(session, new, "", actor_id="test", **how)  # type: ignore[arg-type]


@pytest.fixture
def ben(services: Services) -> User:
    return add(services, "ben", "Ben Ode")


def people(app: AppTest) -> str:
    return "\n".join(one.value for one in app.main.html)


def names(app: AppTest) -> list[str]:
    return re.findall(r"font-weight:600;overflow-wrap:anywhere[^>]*>([^<]+)<", people(app))


def part(app: AppTest, name: str) -> AppTest:
    app.pills(key="users_part").set_value(name).run()
    assert not app.exception
    return app


def choose(app: AppTest, user: User, what: str) -> None:
    app.menu_button(key=f"users_menu_{user.id}").click(what).run()
    assert not app.exception


def _role_dialog(name: str) -> None:
    from papita_core.actors import Actor
    from portal import wiring
    from portal.users import actions

    found = wiring.services().papita.users.listed(Actor.operator(), name)
    actions._role_dialog(found, name == "ana")


def _link_dialog(name: str) -> None:
    from papita_core.actors import Actor
    from portal import wiring
    from portal.users import actions

    actions._reset_link(wiring.services().papita.users.listed(Actor.operator(), name), False)


def _invite_dialog(name: str) -> None:
    from portal.users import invitations

    invitations._invite()


def dialog(services: Services, ana: User, which: Callable[[str], None], name: str = "") -> AppTest:
    """The dialog alone, on every run: AppTest runs whole scripts, where a browser runs it alone."""
    session = services.papita.sessions.start(ana.id).session
    app = AppTest.from_function(which, args=(name,))
    app.session_state[KEY] = Tab(session_id=session.id)
    app.run()
    assert not app.exception
    return app


def forget_the_proof(services: Services) -> None:
    with services.papita.database.write() as session:
        session.connection().exec_driver_sql("UPDATE sign_in_sessions SET proved_at = NULL")


# --- the list ---


def test_users_are_found_as_one_types_and_narrowed(
    services: Services, ana: User, ben: User
) -> None:
    add(services, "cleo", "Cléo")
    services.papita.users.set_role(OPERATOR, "cleo", "guest")
    services.papita.users.set_disabled(OPERATOR, "ben", True)
    app = opened(services, ana, USERS)
    assert names(app) == ["Ana", "Ben Ode", "Cléo"]
    assert "1 to 3 of 3 users" in texts(app)
    assert "1 administrator · 1 disabled" in texts(app)
    app.text_input(key="users_find").set_value("cleo").run()
    assert names(app) == ["Cléo"]
    assert "guest · no second factor · never seen" in people(app)
    app.text_input(key="users_find").set_value("nobody").run()
    assert names(app) == []
    assert "Nobody fits" in app.info[0].value
    app.text_input(key="users_find").set_value("")
    app.selectbox(key="users_state").set_value("disabled").run()
    assert names(app) == ["Ben Ode"]
    app.selectbox(key="users_state").set_value("any")
    app.selectbox(key="users_role").set_value("administrator").run()
    assert names(app) == ["Ana"]


def test_names_are_shown_as_they_are(services: Services, ana: User) -> None:
    add(services, "eve", "<img src=x onerror=alert(1)> **E**")
    app = opened(services, ana, USERS)
    assert "<img" not in people(app)
    assert "&lt;img src=x onerror=alert(1)&gt; **E**" in names(app)


def test_pages_are_turned_and_begin_anew_with_another_filter(services: Services, ana: User) -> None:
    for number in range(PAGE_SIZE + 5):
        add(services, f"user{number:02}")
    app = opened(services, ana, USERS)
    assert len(names(app)) == PAGE_SIZE
    assert app.button(key="users_back").disabled
    press(app, "users_next")
    assert names(app)[-1] == f"user{PAGE_SIZE + 4:02}"
    assert app.button(key="users_next").disabled
    assert f"{PAGE_SIZE + 1} to {PAGE_SIZE + 6} of {PAGE_SIZE + 6} users" in texts(app)
    press(app, "users_back")
    assert names(app)[0] == "Ana"
    press(app, "users_next")
    app.text_input(key="users_find").set_value("user0").run()
    assert names(app)[0] == "user00"


# --- one user ---


def test_a_user_is_disabled_after_a_question_and_enabled(
    services: Services, ana: User, ben: User
) -> None:
    services.papita.sessions.start(ben.id)
    app = opened(services, ana, USERS)
    assert "last seen just now" in people(app)
    choose(app, ben, "disable")
    assert services.papita.sessions.of_user(ben.id)
    press(app, "confirm_yes")
    assert services.papita.sessions.of_user(ben.id) == []
    app.run()
    assert "enable" in app.menu_button(key=f"users_menu_{ben.id}").options[1].lower()
    choose(app, ben, "enable")
    assert services.papita.users.listed(OPERATOR, "ben").state == "enabled"


def test_a_proof_comes_before_every_change(services: Services, ana: User, ben: User) -> None:
    app = opened(services, ana, USERS)
    forget_the_proof(services)
    choose(app, ben, "disable")
    assert [field.label for field in app.text_input if field.key == "proof_password"]
    assert not services.papita.users.listed(OPERATOR, "ben").disabled
    app.text_input(key="proof_password").set_value(PASSWORD)
    next(button for button in app.button if button.label == "Confirm").click().run()
    assert not app.exception
    press(app, "confirm_yes")
    assert services.papita.users.listed(OPERATOR, "ben").disabled


def test_the_last_administrator_is_neither_disabled_nor_lowered(
    services: Services, ana: User
) -> None:
    app = opened(services, ana, USERS)
    assert not any("Delete" in one for one in app.menu_button(key=f"users_menu_{ana.id}").options)
    choose(app, ana, "disable")
    assert "This is you" in texts(app)
    press(app, "confirm_yes")
    assert services.papita.users.listed(OPERATOR, "ana").state == "enabled"
    app = dialog(services, ana, _role_dialog, "ana")
    app.radio(key=f"users_role_{ana.id}").set_value("guest").run()
    assert "This is you" in texts(app)
    press(app, "users_role_save")
    assert "last administrator" in texts(app)
    assert services.papita.users.listed(OPERATOR, "ana").state == "enabled"
    assert services.papita.users.listed(OPERATOR, "ana").role == "administrator"


def test_a_role_is_changed(services: Services, ana: User, ben: User) -> None:
    app = opened(services, ana, USERS)
    choose(app, ben, "role")
    assert app.radio(key=f"users_role_{ben.id}").value == "member"
    app = dialog(services, ana, _role_dialog, "ben")
    assert app.button(key="users_role_save").disabled
    app.radio(key=f"users_role_{ben.id}").set_value("administrator").run()
    press(app, "users_role_save")
    assert services.papita.users.listed(OPERATOR, "ben").role == "administrator"


def test_a_link_for_a_new_password_is_shown_once(services: Services, ana: User, ben: User) -> None:
    app = opened(services, ana, USERS)
    choose(app, ben, "reset-link")
    assert "once and within a day" in texts(app)
    app = dialog(services, ana, _link_dialog, "ben")
    press(app, "users_link_make")
    url = app.code[0].value
    token = url.partition("?reset=")[2]
    assert services.papita.links.password_reset(token).username == "ben"
    assert token not in repr(app.session_state.to_dict())
    app.run()
    assert not app.code


def test_sessions_end_and_an_account_is_deleted(services: Services, ana: User, ben: User) -> None:
    app = opened(services, ana, USERS)
    services.papita.sessions.start(ben.id)
    choose(app, ben, "sessions")
    press(app, "confirm_yes")
    assert services.papita.sessions.of_user(ben.id) == []
    app.run()
    choose(app, ben, "delete")
    press(app, "confirm_no")
    assert services.papita.users.by_username("ben")
    choose(app, ben, "delete")
    press(app, "confirm_yes")
    assert services.papita.users.by_username("ben") is None


# --- requests, invitations, lock-outs, rules ---


def test_requests_are_answered(services: Services, ana: User, ben: User) -> None:
    papita = services.papita
    eve, mallory = (add(services, name, waiting=True) for name in ("eve", "mallory"))
    papita.sign_up.forgotten("ben")
    app = opened(services, ana, USERS)
    assert "3 requests wait for answers." in app.info[0].value
    part(app, "requests")
    assert names(app) == ["eve", "mallory", "Ben Ode"]
    press(app, f"users_approve_{eve.id}")
    assert papita.users.listed(OPERATOR, "eve").state == "enabled"
    press(app, f"users_refuse_{mallory.id}")
    assert papita.users.by_username("mallory") is None
    assert names(app) == ["Ben Ode"]
    press(app, f"users_link_{ben.id}")
    assert app.button(key="users_link_make")
    press(app, f"users_dismiss_{ben.id}")
    assert "Nobody waits" in app.info[0].value


def test_an_invitation_is_made_shown_once_and_taken_back(services: Services, ana: User) -> None:
    page = opened(services, ana, USERS)
    press(page, "users_invite")
    assert page.radio(key="invite_role").value == "member"
    app = dialog(services, ana, _invite_dialog)
    app.radio(key="invite_role").set_value("guest")
    app.text_input(key="invite_email").set_value("nonsense")
    press(app, "users_invite_make")
    assert "not an e-mail" in texts(app)
    app.text_input(key="invite_email").set_value("eve@example.org")
    app.text_input(key="invite_note").set_value("for Eve")
    press(app, "users_invite_make")
    token = app.code[0].value.partition("?invite=")[2]
    assert services.papita.links.invitation(token).role == "guest"
    assert token not in repr(app.session_state.to_dict())
    app.run()
    assert not app.code
    app = part(page, "invitations")
    assert token not in people(app) + texts(app)
    assert names(app) == ["for Eve"]
    assert "eve@example.org" in people(app)
    (pending,) = services.papita.links.invitations(OPERATOR)
    press(app, f"users_revoke_{pending.id}")
    press(app, "confirm_yes")
    with pytest.raises(LinkRefused):
        services.papita.links.invitation(token)


def test_lock_outs_are_seen_and_cleared(services: Services, ana: User, ben: User) -> None:
    limit = Limit("sign-in.account", 1, timedelta(minutes=5))
    for key, who in (("a", ben.id), ("b", None)):
        services.papita.limits.hit(Try(limit, key, user_id=who, address="192.0.2.1"))
    app = part(opened(services, ana, USERS), "lockouts")
    assert "ben · 192.0.2.1 · 1 try · ends in 5 minutes" in texts(app)
    (first, second) = services.papita.limits.locked(OPERATOR)
    press(app, f"users_clear_{first.kind}_{first.key}")
    assert [one.key for one in services.papita.limits.locked(OPERATOR)] == [second.key]
    press(app, f"users_clear_{second.kind}_{second.key}")
    assert "Nobody is locked out." in app.info[0].value


def test_rules_are_decided_behind_a_proof(services: Services, ana: User) -> None:
    app = part(opened(services, ana, USERS), "rules")
    assert app.button(key="users_rules_save").disabled
    app.radio(key="users_rule_sign-up").set_value("approval").run()
    app.radio(key="users_rule_second-factor").set_value("everybody").run()
    assert "You have no second factor yet" in texts(app)
    app.radio(key="users_rule_second-factor").set_value("nobody").run()
    assert services.papita.policies.current().sign_up == "closed"
    press(app, "users_rules_save")
    assert services.papita.policies.current().sign_up == "approval"
    assert services.papita.policies.current().second_factor == "nobody"
