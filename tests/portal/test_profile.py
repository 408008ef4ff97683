"""The Profile page: each section, and what its buttons do."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import update
from streamlit.testing.v1 import AppTest

from papita_core.actors import Actor
from papita_core.users.models import SessionRow
from papita_core.users.service import NewUser, User
from portal.profile.data import archive
from portal.session import Tab
from portal.wiring import ROOT, Services
from tests.portal.conftest import PASSWORD
from tests.portal.test_door import only_the_form, signed_in

PROFILE = str(ROOT / "pages" / "account" / "profile.py")
NEW = "meadows hum at dusk"


def profile(services: Services, user: User, section: str = "details") -> AppTest:
    app, _ = signed_in(services, user)
    app.query_params["section"] = section
    app.switch_page("pages/account/profile.py").run()
    assert not app.exception
    return app


def state(app: AppTest) -> Tab:
    found: Tab = app.session_state["papita_tab"]
    return found


def words(app: AppTest) -> str:
    return "\n".join(str(item.value) for item in (*app.markdown, *app.caption, *app.get("html")))


def labels(app: AppTest) -> list[str]:
    return [button.label for button in app.button]


@pytest.mark.parametrize(
    ("section", "heading"),
    [
        ("details", "Name and e-mail"),
        ("security", "Password"),
        ("sessions", "Where you are signed in"),
        ("activity", "What happened to your account"),
        ("data", "Download your data"),
        ("nonsense", "Name and e-mail"),
    ],
)
def test_the_address_says_which_section_is_open(
    services: Services, ana: User, section: str, heading: str
) -> None:
    app = profile(services, ana, section)
    assert app.title[0].value == "Profile"
    assert heading in [found.value for found in app.subheader]


def test_choosing_a_section_keeps_its_place(services: Services, ana: User) -> None:
    app = profile(services, ana)
    app.get("button_group")[0].set_value("sessions").run()
    assert app.query_params["section"] in ("sessions", ["sessions"])
    assert "Where you are signed in" in [found.value for found in app.subheader]


def test_name_and_email_are_saved_and_refusals_stand_at_their_field(
    services: Services, ana: User
) -> None:
    papita = services.papita
    papita.users.create(
        Actor.operator(), NewUser("ben", PASSWORD, "Ben", "ben@example.org", "member")
    )
    app = profile(services, ana)
    app.text_input(key="profile_name").set_value("Ana *Belén*")
    app.button[labels(app).index("Save name")].click().run()
    assert state(app).look is not None
    found = papita.users.by_id(ana.id)
    assert found is not None
    assert found.display_name == "Ana *Belén*"
    assert "Ana *Belén*" in words(app)
    for email, sentence in (("nonsense", "not an e-mail"), ("BEN@example.org", "cannot be used")):
        app.text_input(key="profile_email").set_value(email)
        app.button[labels(app).index("Save e-mail")].click().run()
        assert sentence in words(app)
        assert app.text_input(key="profile_email").value == email
    app.text_input(key="profile_email").set_value("ana@example.org")
    app.button[labels(app).index("Save e-mail")].click().run()
    assert "ana@example.org" in words(app)


def test_an_email_waits_for_a_proof_that_is_too_old(services: Services, ana: User) -> None:
    app = profile(services, ana)
    with services.papita.database.write() as session:
        session.execute(update(SessionRow).values(proved_at=datetime(2020, 1, 1, tzinfo=UTC)))
    app.text_input(key="profile_email").set_value("ana@example.org")
    app.button[labels(app).index("Save e-mail")].click().run()
    found = services.papita.users.by_id(ana.id)
    assert found is not None
    assert found.email is None
    app.text_input(key="proof_password").set_value(PASSWORD)
    app.button[labels(app).index("Confirm")].click().run()
    app.run()
    found = services.papita.users.by_id(ana.id)
    assert found is not None
    assert found.email == "ana@example.org"


def new_password(app: AppTest, first: str, second: str) -> None:
    """A click in a dialog closes it for AppTest, which runs the page anew."""
    app.button(key="profile_password").click().run()
    app.text_input(key="new_password_password").set_value(first)
    app.text_input(key="new_password_repeat").set_value(second)
    app.button(key="new_password_save").click().run()
    assert not app.exception


def test_a_password_is_changed_and_ends_the_other_sessions(services: Services, ana: User) -> None:
    app = profile(services, ana, "security")
    other = services.papita.sessions.start(ana.id).session
    new_password(app, NEW, "something else")
    assert "not the same" in state(app).errors["new_password"]["repeat"]
    new_password(app, "password123", "password123")
    assert "leaked" in state(app).errors["new_password"]["password"]
    assert services.papita.sessions.by_id(other.id) is not None
    new_password(app, NEW, NEW)
    assert services.papita.sign_in.authenticate("ana", NEW).id == ana.id
    assert services.papita.sessions.by_id(other.id) is None
    assert state(app).errand is not None
    assert "new_password" not in state(app).errors
    assert NEW not in repr(app.session_state.to_dict())


def test_the_strength_is_told_in_words() -> None:
    def script() -> None:
        from portal.new_password import show_strength

        for password in ("short", "password123", "potatoes grow below"):
            show_strength(password, "ana")

    app = AppTest.from_function(script).run()
    very_weak, leaked, strong = (item.value for item in app.markdown)
    assert "Very weak" in leaked
    assert "leaked" in leaked
    assert "Strong" in strong
    assert "eak" in very_weak


def test_sessions_are_marked_and_ended(services: Services, ana: User) -> None:
    others = [services.papita.sessions.start(ana.id, user_agent="Firefox/1 Linux") for _ in "ab"]
    app = profile(services, ana, "sessions")
    assert "Firefox on Linux" in words(app)
    assert labels(app).count("End session") == 2
    app.button(key=f"profile_end_{others[0].session.id}").click().run()
    assert services.papita.sessions.by_id(others[0].session.id) is None
    app.button[labels(app).index("Sign out everywhere else")].click().run()
    assert len(services.papita.sessions.of_user(ana.id)) == 1
    assert "End session" not in labels(app)
    assert app.title[0].value == "Profile"


def test_activity_is_in_words_by_the_readers_clock_and_in_pages(
    services: Services, ana: User
) -> None:
    app, session_id = signed_in(services, ana)
    session = services.papita.sessions.by_id(session_id)
    assert session is not None
    me = Actor.for_session(session)
    services.papita.preferences.change_appearance(me, zone="Pacific/Auckland")
    for number in range(20):
        services.papita.account.rename(me, f"Ana {number}")
    app.query_params["section"] = "activity"
    app.switch_page("pages/account/profile.py").run()
    assert words(app).count("Changed the display name") == 15
    here = datetime.now(UTC).astimezone(ZoneInfo("Pacific/Auckland"))
    assert f"{here.day} {here:%B %Y}" in words(app)
    app.button(key="activity_older").click().run()
    assert "Your account was made" in words(app)
    app.button(key="activity_newer").click().run()
    assert "Your account was made" not in words(app)


def test_how_the_pages_look_is_kept(services: Services, ana: User) -> None:
    app = profile(services, ana)
    app.selectbox(key="profile_zone").set_value("America/New_York").run()
    groups = {group.proto.label: group for group in app.get("button_group")}
    groups["Theme"].set_value("dark").run()
    groups = {group.proto.label: group for group in app.get("button_group")}
    groups["Colour of your picture"].set_value("teal").run()
    assert not app.exception
    (session,) = services.papita.sessions.of_user(ana.id)
    found = session.appearance
    assert (found.zone, found.theme, found.colour) == ("America/New_York", "dark", "teal")
    assert "#0f7072" in words(app)


def test_the_archive_has_the_account_and_says_that_the_chats_are_missing(
    services: Services, ana: User
) -> None:
    _, session_id = signed_in(services, ana)
    session = services.papita.sessions.by_id(session_id)
    assert session is not None
    with zipfile.ZipFile(io.BytesIO(archive(Actor.for_session(session)))) as found:
        assert set(found.namelist()) == {"account.json", "al-chat-is-missing.txt"}
        account = json.loads(found.read("account.json"))
        assert account["account"]["username"] == "ana"
        assert b"AL-Chat" in found.read("al-chat-is-missing.txt")


def delete_by(app: AppTest, typed: str) -> None:
    app.button(key="data_delete").click().run()
    app.text_input(key="delete_account_name").set_value(typed)
    app.button[labels(app).index("Delete for good")].click().run()


def test_an_account_is_deleted_by_its_typed_name_and_the_door_says_so(
    services: Services, ana: User
) -> None:
    app = profile(services, ana, "data")
    delete_by(app, "ana")
    assert "last administrator" in state(app).errors["delete_account"]["form"]
    services.papita.users.create(
        Actor.operator(), NewUser("bea", PASSWORD, "Bea", role="administrator")
    )
    delete_by(app, "anna")
    assert "Type your user name" in state(app).errors["delete_account"]["confirmation"]
    delete_by(app, "Ana")
    assert not app.exception
    assert services.papita.users.by_id(ana.id) is None
    assert "cannot be reached" in app.success[0].value
    assert [due.username for due in services.papita.account.erasures("al-chat")] == ["ana"]
    app.run()
    assert not app.success
    only_the_form(app)
