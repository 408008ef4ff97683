"""The audit page: what it says, how it is filtered and turned, and where its exports lead."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from urllib.parse import parse_qs, urlsplit

import pytest
from streamlit.testing.v1 import AppTest

from papita_core.actors import Actor
from papita_core.audit.service import Damage, Entry, Event
from papita_core.users.service import NewUser, User
from papita_core.vault.service import NewCredential
from portal import audit_view
from portal.wiring import ROOT, Services
from tests.portal.conftest import PASSWORD
from tests.portal.test_door import signed_in

PAGE = "pages/admin/audit.py"


def write(services: Services, *events: Event) -> None:
    with services.papita.database.write() as session:
        services.papita.audit.append(session, *events)


def opened(services: Services, user: User) -> AppTest:
    app, _ = signed_in(services, user)
    return app.switch_page(PAGE).run()


def rows(app: AppTest) -> list[list[str]]:
    """The cells of the tables on the page, one table for each day."""
    tables = [m.value for m in app.main.markdown if "| UTC |" in m.value]
    lines = [line for one in tables for line in one.replace("\\", "").splitlines()[4:]]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def button(app: AppTest, label: str):  # type: ignore[no-untyped-def]
    return next(one for one in app.button if one.label == label)


def links(app: AppTest) -> dict[str, dict[str, list[str]]]:
    """The query of each export, by the label of its link."""
    found = {}
    for one in app.main.get("link_button"):
        url = urlsplit(one.proto.url)
        assert url.path == "/api/audit/export"
        assert not url.netloc
        found[one.proto.label] = parse_qs(url.query)
    return found


def test_the_page_says_in_words_who_did_what(services: Services, ana: User) -> None:
    write(
        services,
        Event("credential.read", "al-chat", ana.id, "c", "al-chat", outcome="forbidden"),
        Event("grant.allowed", ana.id, ana.id, "g", "al-chat"),
        Event("something.else", None, None, "x"),
    )
    app = opened(services, ana)
    assert not app.exception
    shown = [row[1:3] for row in rows(app)]
    assert shown[:4] == [
        ["ana", "signed in"],
        ["Papita", "something.else"],
        ["ana", "allowed a project to use a key: AL-Chat"],
        ["AL-Chat for ana", "read a key (failed: forbidden)"],
    ]
    assert ["operator for ana", "added a user"] in shown
    assert [row[3] for row in rows(app)] == ["5", "4", "3", "2", "1"]


def test_the_filter_narrows_page_and_exports(services: Services, ana: User) -> None:
    ben = services.papita.users.create(Actor.operator(), NewUser("ben", PASSWORD))
    write(
        services,
        Event("credential.read", "al-chat", ana.id, "c", "al-chat"),
        Event("credential.read", "al-chat", ben.id, "c", "al-chat", outcome="forbidden"),
    )
    app = opened(services, ana)
    assert links(app) == {"CSV": {"format": ["csv"]}, "JSON lines": {"format": ["jsonl"]}}
    app.selectbox(key="audit_what").set_value("credential.read").run()
    assert [row[1] for row in rows(app)] == ["AL-Chat for ben", "AL-Chat for ana"]
    app.selectbox(key="audit_who").set_value("ben").run()
    app.selectbox(key="audit_project").set_value("al-chat").run()
    app.selectbox(key="audit_outcome").set_value("Refused or failed").run()
    assert [row[1] for row in rows(app)] == ["AL-Chat for ben"]
    today = datetime.now(UTC).date()
    app.date_input(key="audit_from").set_value(today)
    app.date_input(key="audit_to").set_value(today).run()
    assert [row[1] for row in rows(app)] == ["AL-Chat for ben"]
    assert links(app)["CSV"] == {
        "format": ["csv"],
        "action": ["credential.read"],
        "user": [ben.id],
        "project": ["al-chat"],
        "outcome": ["failed"],
        "since": [today.isoformat()],
        "until": [today.isoformat()],
    }
    app.date_input(key="audit_to").set_value(date(2020, 1, 1)).run()
    assert rows(app) == []
    assert "Widen the filter" in app.info[0].value


def test_pages_are_turned_and_a_new_filter_begins_at_the_newest(
    services: Services, ana: User
) -> None:
    write(services, *[Event("test.done", subject_id=str(number)) for number in range(119)])
    app = opened(services, ana)
    assert [row[3] for row in rows(app)] == [str(seq) for seq in range(121, 71, -1)]
    assert button(app, "Newer").disabled
    button(app, "Older").click().run()
    assert [row[3] for row in rows(app)] == [str(seq) for seq in range(71, 21, -1)]
    write(services, Event("test.later"))
    button(app, "Older").click().run()
    assert [row[3] for row in rows(app)] == [str(seq) for seq in range(21, 0, -1)]
    assert button(app, "Older").disabled
    button(app, "Newer").click().run()
    assert [row[3] for row in rows(app)] == [str(seq) for seq in range(71, 21, -1)]
    app.selectbox(key="audit_what").set_value("test.later").run()
    assert [row[3] for row in rows(app)] == ["122"]
    assert button(app, "Newer").disabled


def test_verify_says_whether_the_log_is_whole(services: Services, ana: User) -> None:
    write(services, Event("test.done"), Event("test.done"))
    app = opened(services, ana)
    button(app, "Verify").click().run()
    assert app.success[0].value == "The log is whole."
    with services.papita.database.write() as session:
        session.connection().exec_driver_sql("UPDATE audit_log SET outcome = 'no' WHERE seq = 2")
    button(app, "Verify").click().run()
    assert not app.success
    said = app.error[0].value
    assert "The log is damaged" in said
    assert "Row 2 of stream main was changed after it was written." in said
    assert "Keep a copy of the database" in said


def test_a_user_name_cannot_break_the_table(services: Services, ana: User) -> None:
    write(services, Event("a|b\n# c", "x | y", "[z](http://example.org)", outcome="**o**"))
    app = opened(services, ana)
    assert not app.exception
    first = next(m.value for m in app.main.markdown if "| UTC |" in m.value).splitlines()[5]
    assert r"a\|b \# c" in first
    assert r"\[z\](http\://example.org)" in first


def test_a_member_may_not_open_the_audit_log(services: Services, ana: User) -> None:
    ben = services.papita.users.create(Actor.operator(), NewUser("ben", PASSWORD))
    app = opened(services, ben)
    assert "You may not open this page" in app.error[0].value
    assert not app.title
    assert not app.main.get("link_button")


def test_a_key_that_was_added_is_on_the_page(services: Services, ana: User) -> None:
    app, session_id = signed_in(services, ana)
    session = services.papita.sessions.by_id(session_id)
    assert session is not None
    services.papita.credentials.create(
        Actor.for_session(session), NewCredential("openai", {"api_key": "sk-demo-0123456789abcdef"})
    )
    app.switch_page(PAGE).run()
    assert rows(app)[0][1:3] == ["ana", "added a credential"]


def test_each_day_has_a_table() -> None:
    times = ("2030-01-31T00:00", "2030-01-30T23:59", "2030-01-30T00:00", "2029-12-01T10:00")
    entries = [
        Entry("main", 4 - place, datetime.fromisoformat(f"{time}+00:00"), Event("x.y"))
        for place, time in enumerate(times)
    ]
    assert [(day, [row[3] for row in rows]) for day, rows in audit_view.by_day(entries)] == [
        ("Thursday, 31 January 2030", ["4"]),
        ("Wednesday, 30 January 2030", ["3", "2"]),
        ("Saturday, 1 December 2029", ["1"]),
    ]


@pytest.mark.parametrize("kind", audit_view.DAMAGES)
def test_each_damage_has_a_sentence(kind: str) -> None:
    sentence = audit_view.damage_sentence(Damage("loans-3", 7, kind))
    assert "stream loans-3" in sentence
    assert ("7" in sentence) == (kind != "head gone")


def test_a_row_of_another_stream_names_it() -> None:
    at = datetime(2030, 1, 31, 12, 30, tzinfo=UTC)
    (row,) = audit_view.entry_rows([Entry("loans-3", 7, at, Event("x.y", "u", "o"))])
    assert row == ("12:30:00", "u for o", "x.y", "loans-3 7")


def test_every_action_has_words() -> None:
    """Whoever adds an event says in `portal/audit_view.py` what people read of it."""
    kinds = "audit|credential|grant|keys?|lease|master-key|project|root-key|token|user|vault"
    written = set()
    for path in (ROOT / "papita_core").rglob("*.py"):
        written |= set(re.findall(rf'"((?:{kinds})\.[a-z-]+)"', path.read_text("utf-8")))
    assert {"credential.read", "user.created", "audit.stream-opened"} <= written
    assert written - audit_view.ACTIONS.keys() == set()
