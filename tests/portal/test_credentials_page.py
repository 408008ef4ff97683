"""The credentials editor without a browser: the forms, replacing, sharing, reminders."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import wait
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update
from streamlit.testing.v1 import AppTest

from papita_core.actors import Actor
from papita_core.usage.budgets import Budget, Spending, nano
from papita_core.users.models import UserRow
from papita_core.users.service import NewUser, User
from papita_core.vault.service import CredentialInfo, NewCredential, ReplaceCredential
from portal import wiring
from portal.chat.follow import budget_warning
from portal.credential_cards import budget_words
from portal.credential_form import expiry_sentence
from portal.settings import PortalSettings
from portal.wiring import Services
from tests.portal.conftest import PASSWORD
from tests.portal.test_door import signed_in
from tests.portal.test_pages import labels

PAGE = "pages/workspace/credentials.py"
KEY = "sk-demo-canary-0123456789abcdef"
OTHER_KEY = "sk-demo-canary-fedcba9876543210"
# Not a global address: refused at once, so that no test depends on a network.
NOWHERE = "https://10.0.0.1/v1"
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def page(services: Services, ana: User) -> AppTest:
    app, _ = signed_in(services, ana)
    app.switch_page(PAGE).run()
    assert not app.exception
    return app


def acting(user: User) -> Actor:
    return Actor(user.id, user.username, user.role)


def store(services: Services, user: User, **given: object) -> CredentialInfo:
    new = {"label": "personal", "base_url": NOWHERE, "secret": {"api_key": KEY}} | given
    return services.papita.credentials.create(
        acting(user),
        NewCredential("openai", **new),  # type: ignore[arg-type]
    )


def press(app: AppTest, *names: str) -> AppTest:
    """Clicks all of these at once: whoever acts in a dialog presses what has opened it, too."""
    for name in names:
        next(button for button in app.button if button.label == name).click()
    return app.run()


def field(fields: Iterable[Any], label: str) -> Any:
    """The one of that label: its key is another one in each dialog."""
    return next(one for one in fields if one.label == label)


def choose(app: AppTest, info: CredentialInfo, option: str) -> AppTest:
    """Takes an option of the card's menu."""
    menu = app.get_by_key(f"credentials_more_{info.id}")
    menu.set_value(option)
    return app.run()


def texts(app: AppTest) -> str:
    shown = [*app.markdown, *app.caption, *app.error, *app.warning, *app.info]
    return "\n".join(element.value for element in shown)


# --- adding ---


def test_each_type_brings_its_own_fields_and_what_was_typed_stays(page: AppTest) -> None:
    press(page, "Add credential")
    page.text_input(key="credential_label").set_value("mine")
    page.text_input(key="credential_api_key").set_value(KEY)
    page.selectbox(key="credential_type").set_value("groq")
    press(page, "Add credential")
    assert page.text_input(key="credential_label").value == "mine"
    assert page.text_input(key="credential_base_url_groq").value == "https://api.groq.com/openai/v1"
    assert "This does not look like a key of Groq" in texts(page)
    page.selectbox(key="credential_type").set_value("azure-openai")
    press(page, "Add credential")
    assert page.text_input(key="credential_base_url_azure-openai").value == ""
    page.selectbox(key="credential_type").set_value("generic")
    press(page, "Add credential")
    assert {field.label for field in page.text_input} == {"Label", "Field name", "Value"}
    assert page.text_input(key="credential_label").value == "mine"


def test_a_key_of_another_provider_is_noticed(page: AppTest) -> None:
    press(page, "Add credential")
    page.text_input(key="credential_api_key").set_value("sk-ant-" + "a" * 40)
    press(page, "Add credential")
    assert "This looks like a key of Anthropic, not of OpenAI" in texts(page)


def test_own_fields_can_be_added_and_are_stored(
    page: AppTest, services: Services, ana: User
) -> None:
    press(page, "Add credential")
    page.selectbox(key="credential_type").set_value("generic")
    press(page, "Add credential")
    press(page, "Add credential", "Add a field")
    for row, name in enumerate(("client_id", "client_secret")):
        page.text_input(key=f"credential_name_{row}").set_value(name)
        page.text_input(key=f"credential_value_{row}").set_value(KEY)
    press(page, "Add credential", "Save")
    assert not page.exception
    (saved,) = services.papita.credentials.list(acting(ana)).items
    assert (saved.credential_type, saved.base_url) == ("generic", "")
    assert KEY not in repr(page.session_state.to_dict())


def test_a_new_key_is_tested_when_it_is_stored_and_kept_if_the_test_fails(
    page: AppTest, services: Services, ana: User
) -> None:
    press(page, "Add credential")
    page.text_input(key="credential_label").set_value("mine")
    page.text_input(key="credential_api_key").set_value(KEY)
    page.text_input(key="credential_base_url_openai").set_value(NOWHERE)
    page.date_input(key="credential_expires_at").set_value(date(2035, 1, 31))
    page.selectbox(key="credential_project_id").set_value("al-chat")
    press(page, "Add credential", "Save")
    wait(page.session_state["papita_tab"].testing.values())
    (saved,) = services.papita.credentials.list(acting(ana)).items
    assert (saved.label, saved.project_id, saved.status) == ("mine", "al-chat", "refused")
    assert saved.expires_at == datetime(2035, 1, 31, 23, 59, 59, tzinfo=UTC)
    page.run()
    assert "Address refused" in texts(page)
    assert "for **AL-Chat**" in texts(page)
    assert KEY not in repr(page.session_state.to_dict())


# --- replacing ---


def test_a_new_key_takes_the_place_of_the_old_one_only_if_it_passes(
    page: AppTest, services: Services, ana: User
) -> None:
    old = store(services, ana)
    page.run()
    press(page, "Replace")
    page.text_input(key="credential_api_key").set_value(OTHER_KEY)
    press(page, "Replace", "Save")
    assert "The old key is still in force." in texts(page)
    assert page.text_input(key="credential_api_key").value == OTHER_KEY
    who = acting(ana)
    assert services.papita.credentials.get(who, old.id).hint == old.hint
    press(page, "Replace", "Replace anyway")
    assert not page.exception
    assert services.papita.credentials.get(who, old.id).hint == f"••••{OTHER_KEY[-4:]}"
    assert OTHER_KEY not in repr(page.session_state.to_dict())
    assert "Replace anyway" not in labels(page)


def test_label_and_expiry_change_without_the_key_and_without_a_test(
    page: AppTest, services: Services, ana: User
) -> None:
    old = store(services, ana)
    page.run()
    press(page, "Replace")
    page.text_input(key="credential_label").set_value("team")
    page.date_input(key="credential_expires_at").set_value(date(2035, 1, 31))
    press(page, "Replace", "Save")
    new = services.papita.credentials.get(acting(ana), old.id)
    assert (new.label, new.hint, new.status) == ("team", old.hint, "untested")
    assert new.expires_at == datetime(2035, 1, 31, 23, 59, 59, tzinfo=UTC)
    # The same day again is the very same time.
    press(page, "Replace")
    press(page, "Replace", "Save")
    assert services.papita.credentials.get(acting(ana), old.id).expires_at == (new.expires_at)


def test_a_change_in_another_tab_is_said_and_overwritten_only_on_purpose(
    page: AppTest, services: Services, ana: User
) -> None:
    old = store(services, ana)
    page.run()
    press(page, "Replace")
    page.text_input(key="credential_label").set_value("mine")
    who = acting(ana)
    services.papita.credentials.replace(
        who, old.id, ReplaceCredential("theirs", base_url=NOWHERE), etag=old.etag
    )
    press(page, "Replace", "Save")
    assert "was changed meanwhile" in texts(page)
    assert services.papita.credentials.get(who, old.id).label == "theirs"
    press(page, "Replace", "Save")
    assert services.papita.credentials.get(who, old.id).label == "mine"


def test_the_link_of_a_reminder_opens_the_form_once(services: Services, ana: User) -> None:
    info = store(services, ana)
    app, _ = signed_in(services, ana)
    app.query_params["replace"] = info.id
    app.switch_page(PAGE).run()
    assert app.text_input(key="credential_label").value == "personal"
    app.run()
    assert not app.text_input


def test_deleting_asks_first(page: AppTest, services: Services, ana: User) -> None:
    store(services, ana)
    page.run()
    press(page, "Delete")
    assert "This cannot be undone." in texts(page)
    page.button(key="confirm_yes").click()
    page.run()
    assert services.papita.credentials.list(acting(ana)).items == []


# --- cards ---


def test_a_credential_is_switched_off_and_on_again(
    page: AppTest, services: Services, ana: User
) -> None:
    info = store(services, ana)
    page.run()
    choose(page, info, "Switch off")
    assert services.papita.credentials.get(acting(ana), info.id).disabled
    page.run()
    assert "Switched off" in texts(page)
    choose(page, info, "Switch on")
    assert not services.papita.credentials.get(acting(ana), info.id).disabled


def test_a_blocked_credential_says_so(page: AppTest, services: Services, ana: User) -> None:
    info = store(services, ana)
    services.papita.credentials.set_blocked(acting(ana), info.id, True)
    page.run()
    assert "An administrator has blocked this credential" in texts(page)


def test_a_shared_credential_is_shown_without_its_hint_or_a_way_to_change_it(
    services: Services, ana: User
) -> None:
    info = store(services, ana, label="Team key")
    ben = services.papita.users.create(Actor.operator(), NewUser("ben", PASSWORD))
    services.papita.credentials.share(
        acting(ana), info.id, everybody=False, usernames=["ben"], etag=info.etag
    )
    app, _ = signed_in(services, ben)
    assert "Add a key" not in texts(app)
    app.switch_page(PAGE).run()
    shown = texts(app)
    assert not app.exception
    assert [heading.value for heading in app.subheader] == ["Shared with you", "Team key"]
    assert "Shared by ana." in shown
    assert "**AL-Chat** uses **Team key** (OpenAI), which ana shares with you" in shown
    assert info.hint not in shown
    assert not {"Test", "Replace", "Delete"} & set(labels(app))


def test_sharing_replaces_the_list_of_those_who_may_use_it(
    page: AppTest, services: Services, ana: User
) -> None:
    info = store(services, ana)
    services.papita.users.create(Actor.operator(), NewUser("ben", PASSWORD))
    page.run()
    choose(page, info, "Share")
    page.radio(key="share_who").set_value("Named users")
    choose(page, info, "Share")
    page.button(key="share_save").click()
    choose(page, info, "Share")
    assert "Choose at least one user" in texts(page)
    page.multiselect(key="share_users").set_value(["ben"])
    page.button(key="share_save").click()
    choose(page, info, "Share")
    who = acting(ana)
    assert services.papita.credentials.shares(who, info.id).usernames == ("ben",)
    page.run()
    assert "Shared with some users" in texts(page)


def test_a_member_cannot_share(services: Services, ana: User) -> None:
    ben = services.papita.users.create(Actor.operator(), NewUser("ben", PASSWORD))
    app, _ = signed_in(services, ben)
    info = store(services, ben)
    app.switch_page(PAGE).run()
    menu = app.get_by_key(f"credentials_more_{info.id}")
    assert not any("Share" in option for option in menu.proto.options)


def test_without_a_key_the_page_says_what_to_do(page: AppTest) -> None:
    assert "**AL-Chat** has no key to use." in texts(page)
    assert "No key of your own yet" in texts(page)


# --- reminders ---


def test_the_dashboard_reminds_of_keys_that_run_out(services: Services, ana: User) -> None:
    soon = datetime.now(UTC) + timedelta(days=3)
    store(services, ana, label="Runs out", expires_at=soon)
    store(services, ana, label="Lasts", expires_at=soon + timedelta(days=60))
    app, _ = signed_in(services, ana)
    shown = texts(app)
    assert "**Runs out** expires in 3 days." in shown
    assert "Lasts" not in shown


@pytest.mark.parametrize(
    ("expires_at", "words"),
    [
        (NOW - timedelta(days=400), "Expired on 16 October 2025."),
        (NOW, "Expired on 20 November 2026."),
        (NOW + timedelta(hours=2), "Expires today."),
        (NOW + timedelta(hours=13), "Expires tomorrow."),
        (NOW + timedelta(days=14), "Expires in 14 days."),
        (NOW + timedelta(days=90), "Expires on 18 February 2027."),
    ],
)
def test_words_for_an_expiry(expires_at: datetime, words: str) -> None:
    assert expiry_sentence(expires_at, NOW) == words


# --- sealed ---


@pytest.fixture
def sealed(services: Services, settings: PortalSettings, ana: User) -> Iterator[Services]:
    """The same portal, started again without its master key."""
    store(services, ana)
    services.close()
    (settings.keys_dir / "master.key").unlink()
    built = wiring.make_services(settings)
    wiring.use(built)
    yield built
    built.close()


def test_a_sealed_vault_says_what_to_do_and_offers_nothing_that_needs_it(
    sealed: Services, ana: User
) -> None:
    app, _ = signed_in(sealed, ana)
    (wanted,) = sealed.papita.ring.status.wanted
    assert f"`{wanted}`" in app.error[0].value
    app.switch_page(PAGE).run()
    assert not app.exception
    assert "PAPITA_MASTER_KEY" in app.error[0].value
    for button in app.button:
        if button.label in ("Add credential", "Import .env", "Test", "Replace", "Delete"):
            assert button.disabled
            assert "sealed" in button.help


def test_a_member_is_told_whom_to_ask_while_the_vault_is_sealed(
    sealed: Services, settings: PortalSettings
) -> None:
    app, _ = signed_in(sealed, _member(sealed))
    assert "until an administrator has opened it" in texts(app)
    assert not app.error


def _member(services: Services) -> User:
    with services.papita.database.write() as session:
        session.execute(update(UserRow).values(role="member"))
    user = services.papita.users.by_username("ana")
    assert user is not None
    return user


# --- budgets ---


def test_a_budget_is_set_changed_and_taken_away_in_the_dialog(
    page: AppTest, services: Services, ana: User
) -> None:
    info = store(services, ana)
    page.run()
    for typed, period, limit in ((5.5, "day", 5_500_000_000), (None, "day", None)):
        press(page, "Replace")
        field(page.number_input, "Budget in US dollars").set_value(typed)
        field(page.selectbox, "Budget for").set_value(period)
        press(page, "Replace", "Save")
        assert not page.exception
        standing = services.papita.credentials.get(acting(ana), info.id).budget
        assert (None if standing is None else standing.budget.limit_nano) == limit
        assert ("5.50 spent today" in texts(page)) == (limit is not None)


@pytest.mark.parametrize(
    ("spent", "unpriced", "words"),
    [
        (1.0, 0, r"^\\\$1.00 of \\\$5.00 spent this month.$"),
        (1.0, 2, "What 2 requests cost is not known.$"),
        (4.0, 0, "^:orange"),
        (5.0, 0, "^:red.*nothing is lent until 1 February"),
    ],
)
def test_a_card_says_how_much_of_a_budget_is_spent(spent: float, unpriced: int, words: str) -> None:
    budget = Budget(nano(5.0), "month")
    standing = Spending(budget, nano(spent), unpriced, date(2027, 1, 1))
    assert re.search(words, budget_words(standing))


def test_the_warning_in_the_chat_says_how_much_of_what() -> None:
    words = budget_warning({"limitUsd": 5.0, "spentUsd": 4.5, "period": "day", "warning": True})
    assert "4.50 of the \\$5.00 budget" in words
    assert "today" in words


def test_each_dialog_has_fields_of_its_own_that_bring_what_is_stored(
    page: AppTest, services: Services, ana: User
) -> None:
    press(page, "Add credential")
    first = field(page.text_input, "Base URL")
    first.set_value(NOWHERE)
    field(page.text_input, "Label").set_value("mine")
    field(page.text_input, "API key").set_value(KEY)
    press(page, "Add credential", "Save")
    page.run()
    press(page, "Replace")
    second = field(page.text_input, "Base URL")
    # A default, and not a value that is sent once: a browser that draws the field anew has it, too.
    assert second.proto.default == NOWHERE
    assert second.key != first.key
