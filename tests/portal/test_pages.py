"""What the pages show and do, without a browser."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from papita_core.actors import Actor
from papita_core.users.service import User
from papita_core.vault.service import NewCredential
from portal.navigation import PAGES, PageEntry
from portal.wiring import Services
from tests.portal.test_door import signed_in

KEY = "sk-demo-canary-0123456789abcdef"


def actor_of(services: Services, user: User) -> Actor:
    (session, *_) = services.papita.sessions.of_user(user.id)
    return Actor.for_session(session)


def add_key(services: Services, user: User) -> None:
    services.papita.credentials.create(
        actor_of(services, user), NewCredential("openai", {"api_key": KEY}, label="personal")
    )


def labels(app: AppTest) -> list[str]:
    return [button.label for button in app.button]


def test_the_dashboard_has_a_card_for_each_project(services: Services, ana: User) -> None:
    app, _ = signed_in(services, ana)
    assert "Open AL-Chat" in labels(app)
    assert [heading.value.split(": ")[-1] for heading in app.subheader] == ["AL-Chat", "AI Resume"]
    assert "This project is not installed on this portal." in [c.value for c in app.caption]
    assert any("Needs attention" in markdown.value for markdown in app.markdown)


def test_opening_a_project_asks_for_consent_first(services: Services, ana: User) -> None:
    app, _ = signed_in(services, ana)
    app.button(key="dashboard_open_al-chat").click().run()
    assert {"Allow", "Not now"} <= set(labels(app))
    app.button(key="consent_no").click().run()
    assert not services.papita.grants.allowed(actor_of(services, ana), "al-chat")


def test_credentials_are_listed_with_a_hint_and_never_in_clear(
    services: Services, ana: User
) -> None:
    app, _ = signed_in(services, ana)
    add_key(services, ana)
    app.switch_page("pages/workspace/credentials.py").run()
    assert not app.exception
    assert "Add credential" in labels(app)
    shown = " ".join(markdown.value for markdown in app.markdown)
    assert "••••cdef" in shown
    assert KEY not in repr(app.main) + repr(app.session_state.to_dict())


def test_the_form_keeps_what_was_typed_and_forgets_the_key_once_saved(
    services: Services, ana: User
) -> None:
    app, _ = signed_in(services, ana)
    app.switch_page("pages/workspace/credentials.py").run()
    add = next(button for button in app.button if button.label == "Add credential")
    add.click().run()
    app.text_input(key="credential_label").set_value("mine")
    app.text_input(key="credential_api_key").set_value(KEY)
    app.text_input(key="credential_base_url_openai").set_value("http://example.org/v1")
    next(button for button in app.button if button.label == "Save").click()
    next(button for button in app.button if button.label == "Add credential").click().run()
    assert any(m.value.startswith(":red[") and "must begin" in m.value for m in app.markdown)
    assert app.text_input(key="credential_label").value == "mine"
    app.text_input(key="credential_base_url_openai").set_value("https://example.org/v1")
    app.text_input(key="credential_api_key").set_value(KEY)
    next(button for button in app.button if button.label == "Save").click()
    next(button for button in app.button if button.label == "Add credential").click().run()
    (saved,) = services.papita.credentials.list(actor_of(services, ana)).items
    assert (saved.label, saved.base_url) == ("mine", "https://example.org/v1")
    assert KEY not in repr(app.session_state.to_dict())


def test_a_connected_app_can_be_revoked(services: Services, ana: User) -> None:
    app, _ = signed_in(services, ana)
    who = actor_of(services, ana)
    services.papita.grants.allow(who, "al-chat")
    app.switch_page("pages/account/connected_apps.py").run()
    next(button for button in app.button if button.label == "Revoke").click().run()
    assert not app.exception
    assert not services.papita.grants.allowed(who, "al-chat")


def test_the_chat_page_says_that_al_chat_is_down_and_offers_to_start_it(
    services: Services, ana: User
) -> None:
    app, _ = signed_in(services, ana)
    app.switch_page("pages/workspace/al_chat.py").run()
    assert not app.exception
    assert "AL-Chat does not answer" in app.error[0].value
    assert "Start AL-Chat" in labels(app)
    app.chat_input[0].set_value("What grows underground?").run()
    assert not app.exception
    assert {"Send again", "Start AL-Chat"} <= set(labels(app))
    assert any("What grows underground?" in markdown.value for markdown in app.markdown)


@pytest.mark.parametrize("entry", PAGES, ids=lambda entry: entry.name)
def test_every_page_opens_for_an_administrator(
    entry: PageEntry, services: Services, ana: User
) -> None:
    app, _ = signed_in(services, ana)
    add_key(services, ana)
    if entry.path:
        app.switch_page(entry.file).run()
    assert not app.exception
    assert [*app.title, *app.subheader]
