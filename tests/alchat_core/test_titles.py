"""Titles that the model makes after the first answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from conftest import ScriptedProvider, Service, follow_to_end, wait_until
from fake_papita import FakePapita

from alchat_core.client import AlChatClient, UserClient
from alchat_core.conversations.models import title_from
from alchat_core.runs.titles import MAX_TITLE, PROMPT, title_of
from demo.provider.answers import title_for
from demo.provider.scripts import script_for
from tests.alchat_core.starter import Starter

QUESTION = "Which potatoes for gratin, please?"
TITLE = "About potatoes and gratin"


@pytest.mark.parametrize(
    ("said", "title"),
    [
        ("Potatoes for a gratin", "Potatoes for a gratin"),
        ('"Potatoes for a gratin."', "Potatoes for a gratin"),
        ("  **Title: Potatoes for a gratin**\n", "Potatoes for a gratin"),
        ("# Potatoes\n\nHere is why: …", "Potatoes"),
        ("„Kartoffeln im Beet“", "Kartoffeln im Beet"),
        ("「じゃがいも」。", "じゃがいも"),
        ("<think>A title, hm.\nLong.</think>\nPotatoes", "Potatoes"),
        ("'ls' and 'rm' in C#", "'ls' and 'rm' in C#"),
        ("'ls' and 'rm'", "'ls' and 'rm'"),
        ("The `ls` command\u202e\x07", "The ls command"),
        ("Trips to the U.S.", "Trips to the U.S."),
        ("", None),
        ("<think>never ends", None),
        ("***\n---\n", None),
    ],
)
def test_what_a_model_says_becomes_one_plain_line(said: str, title: str | None) -> None:
    assert title_of(said) == title


def test_a_long_title_is_cut_between_words() -> None:
    title = title_of("potatoes " * 40)
    assert title is not None
    assert len(title) <= MAX_TITLE
    assert title.endswith("potatoes…")


def test_the_scripted_provider_knows_the_question() -> None:
    asked = PROMPT.format(question=QUESTION, answer="Firm ones.")
    assert title_for(asked) == title_of(title_for(asked) or "")
    assert title_for(QUESTION) is None


@pytest.fixture(scope="module")
def titling(
    tmp_path_factory: pytest.TempPathFactory,
    _papita: FakePapita,
    provider: ScriptedProvider,
    starter: Starter,
) -> Iterator[Service]:
    running = Service(
        tmp_path_factory.mktemp("titles"),
        _papita.url,
        provider.origin,
        starter,
        ALCHAT_TITLES="true",
        ALCHAT_FIRST_TOKEN_TIMEOUT="5.0",
        ALCHAT_LEASE_CHECK_SECONDS="0.1",
    )
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def call(
    titling: Service, papita: FakePapita, username: str
) -> Callable[[str, str, Any], dict[str, Any]]:
    def ask(method: str, path: str, body: Any = None) -> dict[str, Any]:
        answer = requests.request(
            method,
            titling.url + path,
            json=body,
            headers={"Authorization": f"Bearer {papita.token_for(username)}"},
            timeout=10,
        )
        assert answer.ok, answer.text
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found

    return ask


@pytest.fixture
def reader(titling: Service, papita: FakePapita, username: str) -> Iterator[UserClient]:
    client = AlChatClient(titling.url)
    yield client.as_user(lambda: papita.token_for(username))
    client.close()


class Talk:
    """One conversation, from its first message on."""

    def __init__(
        self,
        call: Callable[..., dict[str, Any]],
        reader: UserClient,
        model: str,
        **made: Any,
    ) -> None:
        self._call = call
        self._reader = reader
        self.id: str = call("POST", "/api/conversations", made)["id"]
        self.say(QUESTION, model)

    def say(self, content: str, model: str) -> None:
        follow_to_end(self._reader, self._reader.send(self.id, content, model=model).run_id)

    def look(self) -> dict[str, Any]:
        return self._call("GET", f"/api/conversations/{self.id}")

    def settled(self) -> str:
        """The title once nothing is pending any more."""
        deadline = time.monotonic() + 10
        while (seen := self.look())["titlePending"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        title: str = seen["title"]
        return title


def outcomes(service: Service) -> dict[str, float]:
    lines = requests.get(service.url + "/metrics", timeout=5).text.splitlines()
    counted = [line for line in lines if line.startswith("alchat_titles_total{")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in counted}


def test_the_model_names_a_conversation_after_its_first_answer(
    call: Callable[..., dict[str, Any]],
    reader: UserClient,
    papita: FakePapita,
    provider: ScriptedProvider,
    username: str,
) -> None:
    talk = Talk(call, reader, "demo-fast")
    seen = talk.look()
    # Whoever sees the end of the answer learns whether to look again.
    assert seen["titlePending"] or seen["title"] == TITLE
    assert talk.settled() == TITLE
    hits = call("GET", "/api/search?q=about gratin")["hits"]
    assert [hit["title"] for hit in hits if hit["messageId"] is None] == [TITLE]
    assert call("GET", "/api/search?q=please")["hits"][0]["messageId"] is not None
    assert [run_id.partition("_")[0] for run_id in papita.runs[username]] == ["run", "title"]
    # What it cost is reported like that of any answer.
    wait_until(lambda: f"{papita.runs[username][1]}-1" in papita.usage)
    asked = provider.requests()["total"]
    talk.say("And then?", "demo-fast")
    assert talk.settled() == TITLE
    assert provider.requests()["total"] == asked + 1


def test_an_answer_beside_the_first_gives_no_title_and_prevents_none(
    call: Callable[..., dict[str, Any]], reader: UserClient, provider: ScriptedProvider
) -> None:
    asked = provider.requests()["total"]
    chat = call("POST", "/api/conversations", {})["id"]
    first = reader.send(chat, QUESTION, model="slow-first-1200")
    beside = reader.retry(first.user_message_id, model="demo-fast", beside=True)
    follow_to_end(reader, beside.run_id)
    seen = call("GET", f"/api/conversations/{chat}")
    assert (seen["title"], seen["titlePending"]) == (title_from(QUESTION), False)
    assert reader.run(first.run_id).active
    follow_to_end(reader, first.run_id)
    wait_until(lambda: not reader.conversation(chat).title_pending)
    # This model says the same whatever it is asked.
    assert reader.conversation(chat).title == title_of(script_for("slow-first-1200").text)
    assert provider.requests()["total"] == asked + 3


def test_no_title_over_that_of_a_user_and_none_for_a_temporary_conversation(
    call: Callable[..., dict[str, Any]], reader: UserClient, provider: ScriptedProvider
) -> None:
    asked = provider.requests()["total"]
    named = Talk(call, reader, "demo-fast", title="Mine")
    temporary = Talk(call, reader, "demo-fast", temporary=True)
    assert named.settled() == "Mine"
    assert temporary.settled() == title_from(QUESTION)
    assert provider.requests()["total"] == asked + 2


def test_a_title_that_a_user_gives_meanwhile_stays(
    call: Callable[..., dict[str, Any]], reader: UserClient, titling: Service
) -> None:
    # Every request of this model takes that long, the one for the title, too.
    talk = Talk(call, reader, "slow-first-1200")
    assert talk.look()["titlePending"]
    call("PATCH", f"/api/conversations/{talk.id}", {"title": "Mine"})
    assert talk.settled() == "Mine"
    assert outcomes(titling)['alchat_titles_total{code="",outcome="superseded"}'] == 1


def test_deleting_stops_the_request_and_leaves_no_trace(
    call: Callable[..., dict[str, Any]],
    reader: UserClient,
    titling: Service,
    provider: ScriptedProvider,
) -> None:
    talk = Talk(call, reader, "slow-first-1200")
    wait_until(lambda: provider.requests()["open"] == 1)
    before = provider.requests()["closedByClient"]
    call("DELETE", f"/api/conversations/{talk.id}")
    wait_until(lambda: provider.requests()["closedByClient"] == before + 1)
    restored = call("POST", f"/api/conversations/{talk.id}/restore")
    assert restored["title"] == title_from(QUESTION)
    assert not restored["titlePending"]
    assert outcomes(titling)['alchat_titles_total{code="",outcome="cancelled"}'] >= 1


def test_a_key_that_is_taken_back_stops_the_request(
    call: Callable[..., dict[str, Any]],
    reader: UserClient,
    papita: FakePapita,
    provider: ScriptedProvider,
    username: str,
) -> None:
    talk = Talk(call, reader, "slow-first-1200")
    wait_until(lambda: provider.requests()["open"] == 1)
    before = provider.requests()["closedByClient"]
    papita.ended[username] = "consent-required"
    wait_until(lambda: provider.requests()["closedByClient"] == before + 1)
    assert talk.settled() == title_from(QUESTION)


def test_where_no_title_can_be_made_the_first_words_stay(
    call: Callable[..., dict[str, Any]], reader: UserClient, titling: Service
) -> None:
    # It answers once; the question for a title is another one, which it refuses at first.
    talk = Talk(call, reader, "flaky-1-503")
    assert talk.settled() == title_from(QUESTION)
    assert not talk.look()["titlePending"]
    counted = outcomes(titling)
    assert counted['alchat_titles_total{code="provider-error",outcome="failed"}'] == 1
    assert "no title" not in titling.log.read_text()
