"""The page of personal access tokens: shown once, and nothing of it stays in the tab."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from streamlit.testing.v1 import AppTest

from papita_core.actors import TOKEN_SCOPES
from papita_core.users.access_tokens import PREFIX
from papita_core.users.service import User
from portal.access_tokens import SCOPES
from portal.session import KEY, Tab
from portal.wiring import Services
from tests.portal.test_door import signed_in
from tests.portal.test_pages import actor_of, labels

PAGE = "pages/account/access_tokens.py"


def _dialog() -> None:
    from portal.access_tokens import _create_token

    _create_token()


@pytest.fixture
def dialog(services: Services, ana: User) -> AppTest:
    """The dialog alone, on every run: AppTest runs whole scripts, where a browser runs it alone."""
    session = services.papita.sessions.start(ana.id).session
    app = AppTest.from_function(_dialog)
    app.session_state[KEY] = Tab(session_id=session.id)
    app.run()
    assert not app.exception
    return app


def create(app: AppTest) -> None:
    app.button(key="access_token_create").click().run()
    assert not app.exception


def tokens_on_screen(app: AppTest) -> list[str]:
    return [code.value for code in app.code if code.value.startswith(PREFIX)]


def test_each_scope_is_explained() -> None:
    assert set(SCOPES) == set(TOKEN_SCOPES)


def test_a_token_is_shown_once_and_forgotten(
    services: Services, ana: User, dialog: AppTest
) -> None:
    dialog.text_input(key="access_token_name").set_value("nightly")
    dialog.checkbox(key="access_token_scope_credentials:read").check()
    dialog.segmented_control(key="access_token_expires").set_value(7)
    create(dialog)
    (token,) = tokens_on_screen(dialog)
    assert token not in repr(dialog.session_state.to_dict())
    assert "access_token_create" not in [button.key for button in dialog.button]
    actor = services.papita.access_tokens.actor(token)
    assert actor is not None
    assert actor.scopes == frozenset({"credentials:read"})
    (info,) = services.papita.access_tokens.list(actor_of(services, ana))
    assert info.expires_at is not None
    assert timedelta(days=6) < info.expires_at - datetime.now(UTC) <= timedelta(days=7)

    dialog.run()
    assert tokens_on_screen(dialog) == []


def test_what_was_typed_is_cleared_with_the_box(dialog: AppTest) -> None:
    dialog.text_input(key="access_token_name").set_value("nightly")
    dialog.checkbox(key="access_token_scope_credentials:read").check()
    create(dialog)
    dialog.button(key="access_token_done").click().run()
    assert not dialog.exception
    assert dialog.text_input(key="access_token_name").value == ""
    assert not dialog.checkbox(key="access_token_scope_credentials:read").value


def test_what_is_missing_is_said_beside_its_field(
    services: Services, ana: User, dialog: AppTest
) -> None:
    create(dialog)
    said = [m.value for m in dialog.markdown if m.value.startswith(":red[")]
    assert any("Give the token a name" in sentence for sentence in said)
    assert any("choose at least one" in sentence for sentence in said)
    assert services.papita.access_tokens.list(actor_of(services, ana)) == []


def test_a_date_is_as_good_as_a_number_of_days(
    services: Services, ana: User, dialog: AppTest
) -> None:
    dialog.text_input(key="access_token_name").set_value("until then")
    dialog.checkbox(key="access_token_scope_projects:launch").check()
    until = datetime.now(UTC).date() + timedelta(days=20)
    dialog.date_input(key="access_token_date").set_value(until)
    create(dialog)
    (info,) = services.papita.access_tokens.list(actor_of(services, ana))
    assert info.expires_at is not None
    assert info.expires_at.date() == until


@pytest.fixture
def page(services: Services, ana: User) -> AppTest:
    app, _ = signed_in(services, ana)
    app.switch_page(PAGE).run()
    assert not app.exception
    return app


def test_revoking_asks_first(services: Services, ana: User, page: AppTest) -> None:
    made = services.papita.access_tokens.create(
        actor_of(services, ana), name="old script", scopes=("credentials:read",)
    )
    page.run()
    page.button(key=f"access_tokens_drop_{made.info.id}").click().run()
    assert {"Cancel", "Revoke"} <= set(labels(page))
    page.button(key="confirm_no").click().run()
    assert services.papita.access_tokens.actor(made.token) is not None
    page.button(key=f"access_tokens_drop_{made.info.id}").click().run()
    page.button(key="confirm_yes").click().run()
    assert not page.exception
    assert services.papita.access_tokens.actor(made.token) is None
    assert all("old script" not in markdown.value for markdown in page.markdown)
