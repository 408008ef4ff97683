"""What the chat page offers beside the sentence about an answer that failed."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from papita_core.actors import Actor
from papita_core.users.service import NewUser, User
from portal.session import KEY, Tab
from portal.wiring import Services
from tests.portal.conftest import PASSWORD
from tests.portal.test_pages import actor_of, labels

OFFERS = [
    ("credential-missing", False, ["Add a key", "Try again"]),
    ("credential-rejected", False, ["Replace the key", "Try again"]),
    ("credential-expired", False, ["Replace the key", "Try again"]),
    ("credential-disabled", True, ["Open credentials", "Try again"]),
    ("consent-required", False, ["Allow AL-Chat", "Try again"]),
    ("consent-required", True, ["Allow again", "Try again"]),
    ("project-disabled", True, ["Open projects", "Try again"]),
    ("session-ended", True, ["Try again"]),
    ("quota-exceeded", False, ["Try again", "Open credentials"]),
    ("provider-error", True, ["Try again"]),
]


def _page(code: str, begun: bool) -> None:
    from portal.chat.problems import show_problem
    from portal.chat.view import Problem
    from portal.session import require_user

    problem = Problem(code, "That did not work.", "message-1", begun)
    show_problem(require_user("projects:launch"), problem)


def drawn(services: Services, user: User, code: str, begun: bool) -> AppTest:
    session = services.papita.sessions.start(user.id).session
    app = AppTest.from_function(_page, args=(code, begun))
    app.session_state[KEY] = Tab(session_id=session.id)
    app.run()
    assert not app.exception
    assert app.error[0].value == "That did not work."
    return app


@pytest.mark.parametrize(("code", "begun", "offered"), OFFERS)
def test_the_next_step_fits_the_problem(
    services: Services, ana: User, code: str, begun: bool, offered: list[str]
) -> None:
    assert labels(drawn(services, ana, code, begun)) == offered


def test_only_an_administrator_is_sent_to_the_projects(services: Services) -> None:
    ben = services.papita.users.create(Actor.operator(), NewUser("ben", PASSWORD))
    assert labels(drawn(services, ben, "project-disabled", True)) == ["Try again"]


def test_allowing_asks_first(services: Services, ana: User) -> None:
    app = drawn(services, ana, "consent-required", True)
    app.button(key="al_chat_allow_message-1").click().run()
    assert not app.exception
    assert {"Allow", "Not now"} <= set(labels(app))
    assert not services.papita.grants.allowed(actor_of(services, ana), "al-chat")


def _waiting(seconds: float) -> None:
    import time

    from portal.chat.problems import show_problem
    from portal.chat.view import Problem
    from portal.session import require_user

    wait_until = time.time() + seconds
    problem = Problem("rate-limited", "Slow down.", "message-1", wait_until=wait_until)
    show_problem(require_user("projects:launch"), problem)


@pytest.mark.parametrize(
    ("seconds", "label"),
    [(12, "Try again in 12 s"), (600, "Try again in 10 min"), (0, "Try again")],
)
def test_a_provider_that_wants_to_be_left_alone_is_waited_for(
    services: Services, ana: User, seconds: float, label: str
) -> None:
    session = services.papita.sessions.start(ana.id).session
    app = AppTest.from_function(_waiting, args=(seconds,))
    app.session_state[KEY] = Tab(session_id=session.id)
    app.run()
    assert labels(app) == [label]
    assert app.button[0].disabled == (seconds > 0)
