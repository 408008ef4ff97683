"""The administrator's pages and connected apps: what they show, ask first, and never show."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from papita_core.actors import Actor
from papita_core.errors import ProjectDisabled
from papita_core.grants.service import Read
from papita_core.users.service import NewUser, User
from papita_core.vault.service import NewCredential
from portal import connected_apps, wiring
from portal.wiring import Services
from tests.portal.conftest import PASSWORD
from tests.portal.test_door import signed_in
from tests.portal.test_pages import KEY, actor_of, add_key, labels

CONNECTED_APPS = "pages/account/connected_apps.py"
VAULT = "pages/admin/vault.py"
PROJECTS = "pages/admin/projects.py"
USERS = "pages/admin/users.py"


def opened(services: Services, user: User, page: str) -> AppTest:
    app, _ = signed_in(services, user)
    app.switch_page(page).run()
    assert not app.exception
    return app


def texts(app: AppTest) -> str:
    """All that is written on the page, without the backslashes that keep it from being markup."""
    parts = [*app.markdown, *app.caption, *app.error, *app.warning]
    return "\n".join(part.value for part in parts).replace("\\", "")


def press(app: AppTest, key: str) -> None:
    app.button(key=key).click().run()
    assert not app.exception


@pytest.fixture
def ben(services: Services) -> User:
    return services.papita.users.create(Actor.operator(), NewUser("ben", PASSWORD))


# --- connected apps ---


def test_a_project_says_which_key_it_would_use_and_is_allowed_again(
    services: Services, ana: User
) -> None:
    app = opened(services, ana, CONNECTED_APPS)
    add_key(services, ana)
    who = actor_of(services, ana)
    services.papita.grants.allow(who, "al-chat")
    app.run()
    assert "personal" in texts(app)
    assert "It has read no key yet." in texts(app)
    press(app, "connected_apps_revoke_al-chat")
    assert not services.papita.grants.allowed(who, "al-chat")
    assert "stops within seconds" in texts(app)
    press(app, "connected_apps_allow_al-chat")
    press(app, "consent_yes")
    assert services.papita.grants.allowed(who, "al-chat")


def test_reads_in_words() -> None:
    at = datetime(2026, 5, 4, 12, tzinfo=UTC)
    line = connected_apps._line(Read(at, "1", "My *key*", "run_0123456789abcdef", "ok"))
    assert line == "- 2026-05-04 12:00:00 · **My \\*key\\*** · Lent · run `89abcdef`"
    assert "no key · Refused: not allowed" in connected_apps._line(
        Read(at, None, None, None, "consent-required")
    ).replace("*", "")
    assert connected_apps._line(Read(at, "1", None, None, "something-new")).endswith("Refused")


def test_how_often_counts_this_day_and_what_was_lent_alone() -> None:
    now = datetime.now(UTC)
    today = Read(now, "1", "a", None, "ok")
    before = Read(now - timedelta(days=2), "1", "a", None, "ok")
    refused = Read(now, "1", "a", None, "credential-disabled")
    words = connected_apps._how_often
    assert words([], more=False) == "It has read no key yet."
    assert words([today, refused, before], more=False) == "Read a key 1 time today, last just now."
    assert words([before], more=False) == "Read a key not once today, last 2 days ago."
    assert words([today, today], more=True).startswith("Read a key more than 2 times today")
    assert words([refused], more=False) == "It was lent no key of late."


# --- the vault ---


def test_the_vault_shows_the_ring_and_no_secret(services: Services, ana: User) -> None:
    app = opened(services, ana, VAULT)
    add_key(services, ana)
    app.run()
    ring = services.papita.ring.status
    shown = texts(app)
    assert "Open" in shown
    assert (ring.master_kid or "none")[:8] in shown
    assert "keys/master.key" in shown
    assert "There is none yet." in shown
    assert "**personal**" in shown
    assert "ana, OpenAI, never used" in shown
    assert "••••" not in shown
    assert KEY not in repr(app.main) + repr(app.session_state.to_dict())
    assert {"Rotate root key", "Rotate signing key", "Change master key", "Block"} <= {*labels(app)}


def test_keys_are_rotated_from_the_page(
    services: Services, ana: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A toast stays on the screen over the runs that follow; AppTest shows the last one alone.
    told: list[str] = []
    monkeypatch.setattr(st, "toast", told.append)
    app = opened(services, ana, VAULT)
    add_key(services, ana)

    def active(kind: str) -> str:
        return next(
            key.kid
            for key in services.papita.ring.status.purposes
            if (key.purpose, key.state) == (kind, "active")
        )

    def root() -> str:
        return next(
            root.kid for root in services.papita.ring.status.roots if root.state == "active"
        )

    signing, first = active("user-token"), root()
    press(app, "vault_signing")
    assert active("user-token") != signing
    press(app, "vault_rotate")
    assert root() != first
    end = time.monotonic() + 30
    while services.papita.rotation.progress().state != "idle":
        assert time.monotonic() < end
        time.sleep(0.02)
    if "The root key is rotated." not in told:  # it was seen at work
        app.run()
    assert told.count("The root key is rotated.") == 1


def test_the_master_key_changes_after_a_question(services: Services, ana: User) -> None:
    app = opened(services, ana, VAULT)
    before = services.papita.ring.status.master_kid
    press(app, "vault_master")
    assert services.papita.ring.status.master_kid == before
    press(app, "confirm_yes")
    after = services.papita.ring.status
    assert after.master_kid != before
    assert after.wanted == (after.master_kid,)
    app.run()
    assert (after.master_kid or "")[:8] in texts(app)


def test_a_credential_is_blocked_after_a_question_and_unblocked(
    services: Services, ana: User, ben: User
) -> None:
    app = opened(services, ana, VAULT)
    services.papita.sessions.start(ben.id)
    info = services.papita.credentials.create(
        actor_of(services, ben), NewCredential("openai", {"api_key": KEY}, label="bens")
    )
    app.run()
    press(app, f"vault_block_{info.id}")
    assert not services.papita.credentials.get(actor_of(services, ben), info.id).blocked
    press(app, "confirm_yes")
    assert services.papita.credentials.get(actor_of(services, ben), info.id).blocked
    app.run()
    press(app, f"vault_unblock_{info.id}")
    assert not services.papita.credentials.get(actor_of(services, ben), info.id).blocked


def test_a_sealed_vault_says_what_opens_it(services: Services, ana: User) -> None:
    wanted = services.papita.ring.status.wanted[0]
    key_file = services.settings.keys_dir / "master.key"
    services.papita.close()
    key_file.unlink()
    sealed = wiring.make_services(services.settings)
    wiring.use(sealed)
    try:
        app = opened(sealed, ana, VAULT)
        assert "Sealed" in texts(app)
        assert wanted in texts(app)
        assert "Rotate root key" not in labels(app)
    finally:
        sealed.close()


# --- projects ---


def test_a_project_is_switched_off_after_a_question(services: Services, ana: User) -> None:
    app = opened(services, ana, PROJECTS)
    projects = services.papita.projects
    press(app, "projects_off_al-chat")
    press(app, "confirm_no")
    assert not projects.is_disabled("al-chat")
    press(app, "projects_off_al-chat")
    press(app, "confirm_yes")
    assert projects.is_disabled("al-chat")
    app.switch_page("pages/workspace/dashboard.py").run()
    assert app.button(key="dashboard_open_al-chat").disabled
    assert ProjectDisabled.sentence in texts(app)
    app.switch_page(PROJECTS).run()
    press(app, "projects_on_al-chat")
    assert not projects.is_disabled("al-chat")


@pytest.mark.parametrize("page", [VAULT, PROJECTS, USERS])
def test_a_member_may_not_open_them(page: str, services: Services, ben: User) -> None:
    app, _ = signed_in(services, ben)
    app.switch_page(page).run()
    assert "You may not open this page" in app.error[0].value
    assert not app.title
