"""Tools by MCP: two real servers as a process, one that misbehaves, and the loop between them."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import (
    ScriptedProvider,
    Service,
    clean_environment,
    follow_to_end,
    free_port,
    text_of,
    wait_until,
)
from fake_papita import FakePapita
from test_real_servers import SERVERS

from alchat_core.client import AlChatClient, Event, NotFound, UserClient
from tests.alchat_core.starter import Starter
from tests.alchat_core.tool_servers import TOKEN, OddServer

SAID = "Let me look. "


@pytest.fixture(scope="module")
def odd() -> Iterator[OddServer]:
    running = OddServer()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The URLs of mcp-server-time and mcp-server-git, the latter over a small repository."""
    folder = tmp_path_factory.mktemp("tools")
    repository = folder / "repository"
    repository.mkdir()
    (repository / "potato.txt").write_text("linda\n", "utf-8")
    git = shutil.which("git")
    assert git
    who = ("-c", "user.name=gardener", "-c", "user.email=gardener@example.org")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "Plant potatoes")):
        subprocess.run([git, *words], cwd=repository, check=True)
    ports = free_port(), free_port()
    log = folder / "servers.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                str(SERVERS / "python"),
                str(Path(__file__).with_name("tool_servers.py")),
                *map(str, ports),
                str(repository),
            ],
            cwd=folder,
            env={**clean_environment(), "HOME": str(folder)},
            stdout=output,
            stderr=output,
        )
    try:
        for port in ports:
            deadline = time.monotonic() + 120
            while True:
                try:
                    requests.get(f"http://127.0.0.1:{port}/", timeout=5)
                    break
                except requests.RequestException:
                    assert process.poll() is None, log.read_text()
                    assert time.monotonic() < deadline, log.read_text()
                    time.sleep(0.1)
        yield {
            "time": f"http://127.0.0.1:{ports[0]}/mcp",
            "git": f"http://127.0.0.1:{ports[1]}/mcp",
            "repository": str(repository),
        }
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def tooled(
    tmp_path_factory: pytest.TempPathFactory,
    _papita: FakePapita,
    provider: ScriptedProvider,
    starter: Starter,
    odd: OddServer,
    real: dict[str, str],
) -> Iterator[Service]:
    origins = [
        provider.origin,
        provider.by_name,
        odd.origin,
        *(real[name].removesuffix("/mcp") for name in ("time", "git")),
    ]
    running = Service(
        tmp_path_factory.mktemp("alchat-tools"),
        _papita.url,
        ",".join(origins),
        starter,
        ALCHAT_RESPONSES_ORIGINS=provider.by_name,
        ALCHAT_TOOL_SECONDS="1.5",
        ALCHAT_TOOL_ROUNDS="3",
        ALCHAT_TOOL_CALLS_PER_ROUND="2",
        ALCHAT_TOOL_ANSWER_BYTES="100000",
        ALCHAT_TOOL_RESULT_BYTES="5000",
        ALCHAT_TOOL_APPROVAL_SECONDS="1.5",
        ALCHAT_LEASE_CHECK_SECONDS="0.2",
    )
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def tooled_client(tooled: Service, papita: FakePapita) -> Iterator[AlChatClient]:
    papita.tool_tokens.clear()
    made = AlChatClient(tooled.url)
    yield made
    made.close()


class Person:
    """A user of the service with tools; `call` asks its API."""

    def __init__(self, service: Service, client: AlChatClient, papita: FakePapita, name: str):
        self.service, self.papita, self.name = service, papita, name
        self.user: UserClient = client.as_user(lambda: papita.token_for(name))

    def call(self, method: str, path: str, body: Any = None, status: int | None = None) -> Any:
        answer = requests.request(
            method,
            self.service.url + path,
            json=body,
            headers={"Authorization": f"Bearer {self.papita.token_for(self.name)}"},
            timeout=10,
        )
        if status is None:
            assert answer.ok, answer.text
        else:
            assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def add(self, url: str, **more: Any) -> str:
        made = self.call("POST", "/api/tool-servers", {"name": "server", "url": url, **more})
        return str(made["id"])

    def conversation(self, *servers: str) -> str:
        return str(self.call("POST", "/api/conversations", {"tools": servers})["id"])

    def decide(self, run_id: str, call_id: str, decision: Any, status: int = 204) -> Any:
        if status == 204:
            return self.user.decide(run_id, call_id, decision)
        path = f"/api/runs/{run_id}/tool-calls/{call_id}"
        return self.call("POST", path, {"decision": decision}, status)

    def ask(
        self, conversation: str, question: str, decision: str = "once", model: str = "tools"
    ) -> list[Event]:
        """The events of an answer; each call that asks gets this decision, "" none."""
        run_id = self.user.send(conversation, question, model=model).run_id
        return self.follow(run_id, decision)

    def follow(self, run_id: str, decision: str = "once") -> list[Event]:
        events: list[Event] = []
        with self.user.follow(run_id) as follower:
            while not follower.finished:
                new = follower.wait(0.25)
                events += new
                for event in new:
                    if (
                        event.type == "tool.call"
                        and event.data["approval"] == "needed"
                        and decision
                    ):
                        self.decide(run_id, event.data["id"], decision)
        return events

    def messages(self, conversation: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call(
            "GET", f"/api/conversations/{conversation}/messages"
        )["messages"]
        return found


@pytest.fixture
def person(
    tooled: Service, tooled_client: AlChatClient, papita: FakePapita, username: str
) -> Person:
    return Person(tooled, tooled_client, papita, username)


def of(events: list[Event], kind: str) -> list[dict[str, Any]]:
    return [event.data for event in events if event.type == kind]


def results(events: list[Event]) -> list[tuple[str, bool]]:
    return [(one["content"], one["isError"]) for one in of(events, "tool.result")]


def said(text: str, **more: Any) -> str:
    return f"call say {json.dumps({'text': text, **more})}"


def test_two_real_servers_in_one_answer(person: Person, real: dict[str, str]) -> None:
    clock, git = person.add(real["time"]), person.add(real["git"])
    assert person.call("POST", f"/api/tool-servers/{clock}/test") == {"tools": 2}
    tools = person.call("GET", f"/api/tool-servers/{git}/tools")["tools"]
    assert "git_log" in {tool["name"] for tool in tools}
    assert all(tool["inputSchema"]["type"] == "object" for tool in tools)
    conversation = person.conversation(clock, git)
    question = (
        'call convert_time {"source_timezone": "UTC", "time": "12:00", "target_timezone":'
        ' "Asia/Tokyo"}\nthen\n'
        f"call git_log {json.dumps({'repo_path': real['repository']})}"
    )

    events = person.ask(conversation, question)

    first, second = of(events, "tool.call")
    assert (first["serverId"], first["tool"], first["approval"]) == (
        clock,
        "convert_time",
        "needed",
    )
    assert first["arguments"]["target_timezone"] == "Asia/Tokyo"
    hours, log = of(events, "tool.result")
    assert "T21:00:00+09:00" in hours["content"]
    assert "Plant potatoes" in log["content"]
    assert not any(one["isError"] or one["truncated"] for one in (hours, log))
    answer = text_of(events)
    assert answer == f"{SAID}{SAID}2 results, 0 earlier: {hours['content']} | {log['content']}"
    usage = events[-1].data["usage"]
    assert usage["totalTokens"] == usage["promptTokens"] + usage["completionTokens"]

    message = person.messages(conversation)[1]
    assert message["content"] == answer
    assert [(one["id"], one["at"]) for one in message["toolCalls"]] == [
        (first["id"], len(SAID)),
        (second["id"], 2 * len(SAID)),
    ]
    assert [one["content"] for one in message["toolCalls"]] == [hours["content"], log["content"]]

    # The next answer is given what was called before; without tools it is given the text alone.
    assert text_of(person.ask(conversation, "And?")) == "0 results, 2 earlier: "
    path = f"/api/conversations/{conversation}"
    person.call("PATCH", path, {"tools": []})
    shown = text_of(person.ask(conversation, "And?", model="echo-all"))
    assert "tool: " not in shown
    assert f"assistant: {SAID}{SAID}2 results" in shown
    person.call("PATCH", path, {"tools": [git]})
    shown = text_of(person.ask(conversation, "And?", model="echo-all"))
    assert f"assistant: {SAID}\ntool: {hours['content']}" in shown


def test_calls_of_one_round_run_together_and_always_is_kept(person: Person, odd: OddServer) -> None:
    server = person.add(odd.url())
    conversation = person.conversation(server)
    events = person.ask(conversation, f"{said('one')}\n{said('two')}", "always")
    kinds = [event.type for event in events if event.type.startswith("tool.")]
    assert kinds[:2] == ["tool.call"] * 2
    assert sorted(results(events)) == [("one", False), ("two", False)]
    assert {one["decision"] for one in of(events, "tool.decision")} == {"always"}
    tools = person.call("GET", f"/api/tool-servers/{server}/tools")["tools"]
    assert [tool["name"] for tool in tools if tool["approved"]] == ["say"]

    unasked = person.ask(conversation, said("three"), "")
    assert of(unasked, "tool.call")[0]["approval"] == "given"
    assert results(unasked) == [("three", False)]

    # A tool that describes itself otherwise is another one.
    odd.description = "Says it, and orders a ton of potatoes."
    person.call("POST", f"/api/tool-servers/{server}/test")
    assert of(person.ask(conversation, said("four")), "tool.call")[0]["approval"] == "needed"
    person.ask(conversation, said("five"), "always")
    person.call("DELETE", f"/api/tool-servers/{server}/approvals?tool=say")
    assert of(person.ask(conversation, said("six")), "tool.call")[0]["approval"] == "needed"


def test_no_means_no(person: Person, odd: OddServer) -> None:
    conversation = person.conversation(person.add(odd.url()))
    before = odd.calls["say"]
    events = person.ask(conversation, said("no"), "deny")
    [(content, failed)] = results(events)
    assert failed
    assert content.startswith("The user does not allow this call.")
    assert text_of(events).endswith(content)
    assert (odd.calls["say"], events[-1].type) == (before, "run.completed")


def test_what_the_model_gets_wrong_is_told_to_the_model(person: Person, odd: OddServer) -> None:
    conversation = person.conversation(person.add(odd.url()))
    questions = {
        "call say {not json": "not a JSON object",
        "call say [1]": "not a JSON object",
        "call dance {}": "no tool of this name",
    }
    for question, words in questions.items():
        events = person.ask(conversation, question, "")
        [(content, failed)] = results(events)
        assert failed
        assert words in content
        assert events[-1].type == "run.completed"
    events = person.ask(conversation, "\n".join(map(said, "abc")))
    [refused] = [content for content, failed in results(events) if failed]
    assert refused.startswith("Too many calls at once")


def test_a_name_that_no_provider_takes_is_another_one_for_the_model(
    person: Person, odd: OddServer
) -> None:
    conversation = person.conversation(person.add(odd.url()))
    events = person.ask(conversation, 'call say_again {"text": "again"}')
    assert of(events, "tool.call")[0]["tool"] == "say/again"
    assert results(events) == [("again", False)]


def test_a_model_that_calls_on_and_on_has_to_answer(person: Person, odd: OddServer) -> None:
    conversation = person.conversation(person.add(odd.url()))
    events = person.ask(conversation, f"{said('x')}\nfor ever", "always")
    assert len(results(events)) == 3
    assert text_of(events) == f"{SAID * 3}3 results, 0 earlier: x | x | x"


def test_servers_and_tools_that_misbehave(person: Person, odd: OddServer) -> None:
    conversation = person.conversation(person.add(odd.url()))

    def outcome(tool: str) -> tuple[str, bool, bool]:
        [one] = of(person.ask(conversation, f'call {tool} {{"text": "t"}}'), "tool.result")
        return one["content"], one["isError"], one["truncated"]

    assert outcome("long") == ("é" * 2500, False, True)
    assert outcome("fail") == ("t", True, False)
    assert outcome("refuse") == ("the text is not to my taste", True, False)
    assert outcome("huge")[0].startswith("The tool server sent more than AL-Chat takes.")
    assert outcome("break")[0].startswith("The tool server reported a fault")
    assert "in time" in outcome("hang")[0] or "within 1.5 seconds" in outcome("hang")[0]
    # It still works for the next one.
    assert outcome("say") == ("t", False, False)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("/away", "sends callers on to another address"),
        ("/broken", "reported a fault"),
        ("/page", "does not speak MCP"),
        ("/hang", "did not answer in time"),
        ("/token", "does not accept the token"),
    ],
)
def test_a_server_that_cannot_be_asked_for_its_tools(
    person: Person, odd: OddServer, how: str, words: str
) -> None:
    server = person.add(odd.url(how))
    problem = person.call("POST", f"/api/tool-servers/{server}/test", status=502)
    assert problem["code"] == "tool-server-failed"
    assert words in problem["detail"]
    assert "secret" not in json.dumps(problem)
    # The answer is written without it.
    events = person.ask(person.conversation(server), "call say {}")
    assert words in of(events, "tool.unavailable")[0]["message"]
    assert (text_of(events), events[-1].type) == ("0 results, 0 earlier: ", "run.completed")


def test_a_list_without_an_end_is_cut_off(person: Person, odd: OddServer) -> None:
    server = person.add(odd.url("/flood"))
    assert person.call("POST", f"/api/tool-servers/{server}/test")["tools"] <= 200


def test_stop_ends_a_running_call_at_once(person: Person, odd: OddServer) -> None:
    conversation = person.conversation(person.add(odd.url()))
    odd.arrived.clear()
    run_id = person.user.send(conversation, "call hang {}", model="tools").run_id
    with person.user.follow(run_id) as follower:
        events: list[Event] = []
        while not of(events, "tool.call"):
            events += follower.wait(1)
    person.decide(run_id, of(events, "tool.call")[0]["id"], "once")
    assert odd.arrived.wait(5)
    assert person.user.cancel(run_id).state == "cancelled"
    answer = person.messages(conversation)[1]
    assert (answer["content"], answer["toolCalls"][0]["content"]) == (SAID, None)
    # The model is told so, or most providers would refuse the conversation.
    shown = text_of(person.ask(conversation, "And?", model="echo-all"))
    assert "tool: This call was not finished" in shown


def test_an_answer_waits_for_a_decision_but_not_for_ever(person: Person, odd: OddServer) -> None:
    conversation = person.conversation(person.add(odd.url()))
    sent = person.user.send(conversation, said("later"), model="tools")
    # Nobody follows; the question is still there for whoever comes back.
    wait_until(lambda: person.user.run(sent.run_id).last_event >= 3)
    call_id = person.messages(conversation)[1]["toolCalls"][0]["id"]
    person.decide(sent.run_id, "call_0", "once", 409)
    person.decide(sent.run_id, call_id, "perhaps", 422)
    person.decide(sent.run_id, call_id, "once")
    assert results(person.follow(sent.run_id, "")) == [("later", False)]
    assert person.decide(sent.run_id, call_id, "once", 409)["code"] == "call-not-waiting"

    events = person.ask(conversation, f"{said('a')}\n{said('b')}", "")
    assert (events[-1].type, events[-1].data["code"]) == ("run.failed", "approval-timeout")
    assert person.messages(conversation)[3]["content"] == SAID
    assert [one["content"] for one in person.messages(conversation)[3]["toolCalls"]] == [None] * 2


def test_an_answer_that_was_broken_off_after_a_call_goes_on(person: Person, odd: OddServer) -> None:
    conversation = person.conversation(person.add(odd.url()))
    question = f"{said('first')}\nthen\n{said('second')}"
    run_id = person.user.send(conversation, question, model="tools").run_id
    decided = 0
    with person.user.follow(run_id) as follower:
        while not follower.finished:
            for event in follower.wait(0.25):
                if event.type == "tool.call" and not decided:
                    person.decide(run_id, event.data["id"], "once")
                    decided += 1
    broken = person.messages(conversation)[1]
    assert broken["content"] == SAID * 2
    again = person.user.go_on(broken["id"])
    person.follow(again.run_id)
    whole = person.messages(conversation)[1]
    assert [one["content"] for one in whole["toolCalls"]] == ["first", None]
    assert whole["content"].startswith(SAID * 2)
    assert len({one["id"] for one in whole["toolCalls"]}) == 2


def test_the_token_comes_from_papita_and_goes_to_its_server_alone(
    person: Person, odd: OddServer, papita: FakePapita, tooled: Service
) -> None:
    server = person.add(odd.url("/token"), needsToken=True)
    problem = person.call("POST", f"/api/tool-servers/{server}/test", status=502)
    assert "Papita has no token for this tool server" in problem["detail"]
    papita.tool_tokens[odd.url("/token")] = TOKEN
    assert person.call("POST", f"/api/tool-servers/{server}/test")["tools"] == 8
    plain = person.add(odd.url())
    person.call("POST", f"/api/tool-servers/{plain}/test")
    with_token = odd.keys[f"Bearer {TOKEN}"]
    conversation = person.conversation(server, plain)
    run_id = person.user.send(conversation, said("paid"), model="tools").run_id
    assert results(person.follow(run_id)) == [("paid", False)]
    # The call was made with a loan for this run, and no key of a provider went along.
    assert papita.runs[person.name][-1] == run_id
    assert odd.keys[f"Bearer {TOKEN}"] > with_token
    assert set(odd.keys) == {"", f"Bearer {TOKEN}"}
    assert TOKEN not in tooled.log.read_text()
    for file in tooled.database.parent.glob("alchat.db*"):
        assert TOKEN.encode() not in file.read_bytes()


def test_a_token_that_is_taken_back_ends_the_answer(
    person: Person, odd: OddServer, papita: FakePapita
) -> None:
    papita.tool_tokens[odd.url("/token")] = TOKEN
    conversation = person.conversation(person.add(odd.url("/token"), needsToken=True))
    odd.arrived.clear()
    run_id = person.user.send(conversation, "call hang {}", model="tools").run_id
    with person.user.follow(run_id) as follower:
        events: list[Event] = []
        while not of(events, "tool.call"):
            events += follower.wait(1)
        person.decide(run_id, of(events, "tool.call")[0]["id"], "once")
        assert odd.arrived.wait(5)
        papita.ended[f"tool-{person.name}"] = "credential-disabled"
    events = follow_to_end(person.user, run_id)
    assert (events[-1].type, events[-1].data["code"]) == ("run.failed", "credential-disabled")


def test_a_model_without_tools_says_so_and_the_conversation_goes_on_without(
    person: Person, odd: OddServer
) -> None:
    conversation = person.conversation(person.add(odd.url()))
    person.ask(conversation, said("before"))
    events = person.ask(conversation, "hello", model="no-tools")
    assert (events[-1].type, events[-1].data["code"]) == ("run.failed", "tools-refused")
    person.call("PATCH", f"/api/conversations/{conversation}", {"tools": []})
    assert person.ask(conversation, "hello", model="no-tools")[-1].type == "run.completed"


def test_a_shared_server_is_switched_on_by_everybody_alone(
    person: Person, odd: OddServer, tooled: Service, tooled_client: AlChatClient, papita: FakePapita
) -> None:
    other = Person(tooled, tooled_client, papita, f"{person.name}-other")
    server = person.add(odd.url())
    body = {"tools": [server]}
    refused = other.call("POST", "/api/conversations", body, 422)
    assert refused == other.call("POST", "/api/conversations", {"tools": ["srv_none"]}, 422)
    person.call("PATCH", f"/api/tool-servers/{server}", {"shared": True})
    seen = other.call("GET", f"/api/tool-servers/{server}")
    assert (seen["own"], seen["owner"]) == (False, person.name)
    assert other.call("PATCH", f"/api/tool-servers/{server}", {"name": "mine"}, 403)
    other.call("DELETE", f"/api/tool-servers/{server}", status=403)
    conversation = other.conversation(server)
    assert results(other.ask(conversation, said("shared"), "always")) == [("shared", False)]
    # What one user allows, the other is asked about.
    mine = person.conversation(server)
    assert of(person.ask(mine, said("mine")), "tool.call")[0]["approval"] == "needed"
    person.call("PATCH", f"/api/tool-servers/{server}", {"shared": False})
    assert text_of(other.ask(conversation, said("gone"))) == "0 results, 0 earlier: "
    assert other.call("GET", f"/api/conversations/{conversation}")["tools"] == [server]


def test_addresses_and_limits(person: Person, odd: OddServer) -> None:
    for url in (
        "http://127.0.0.1:9/mcp",
        "https://10.0.0.1/mcp",
        "http://example.com/mcp",
        "ftp://example.com",
        f"{odd.url()}?key=secret",
        "https://user:secret@example.com/mcp",
        "nonsense",
    ):
        problem = person.call("POST", "/api/tool-servers", {"name": "x", "url": url}, 422)
        assert "secret" not in problem["detail"]
    server = person.add(odd.url())
    twice = {"tools": [server, server]}
    assert person.call("POST", "/api/conversations", twice, 422)
    person.call("PATCH", f"/api/tool-servers/{server}", {"url": None}, 422)
    person.call("POST", f"/api/tool-servers/{server}/test")
    moved = person.call("PATCH", f"/api/tool-servers/{server}", {"url": odd.url("/other")})
    assert moved["toolCount"] is None
    listed = person.call("GET", "/api/tool-servers")["toolServers"]
    assert [one["id"] for one in listed if one["own"]] == [server]
    person.call("DELETE", f"/api/tool-servers/{server}", status=204)
    person.call("GET", f"/api/tool-servers/{server}", status=404)


def test_calls_by_the_responses_api(
    person: Person, odd: OddServer, papita: FakePapita, provider: ScriptedProvider
) -> None:
    papita.base_url = provider.by_name + "/v1"
    conversation = person.conversation(person.add(odd.url()))
    question = f"{said('one')}\n{said('two')}\nthen\n{said('three')}"
    events = person.ask(conversation, question)
    assert sorted(results(events)) == [("one", False), ("three", False), ("two", False)]
    assert text_of(events) == f"{SAID}{SAID}3 results, 0 earlier: one | two | three"
    assert {one["api"] for one in provider.requests()["recent"][-3:]} == {"responses"}
    # They are sent again in later turns, by the other API as well.
    assert text_of(person.ask(conversation, "And?")) == "0 results, 3 earlier: "
    assert person.ask(conversation, "x", model="no-tools")[-1].data["code"] == "tools-refused"
    papita.base_url = provider.base_url
    assert text_of(person.ask(conversation, "And?")) == "0 results, 3 earlier: "
    assert provider.requests()["recent"][-1]["api"] == "chat"


def test_the_client_knows_servers_calls_and_decisions(person: Person, odd: OddServer) -> None:
    user = person.user
    made = user.create_tool_server("odd", odd.url())
    assert user.test_tool_server(made.id) == 8
    assert user.tool_server(made.id).tool_count == 8
    assert made.id in {one.id for one in user.tool_servers().items}
    conversation = user.create_conversation(tools=[made.id])
    assert conversation.tools == (made.id,)
    person.ask(conversation.id, said("hello"), "always")
    [call] = user.messages(conversation.id).items[-1].tool_calls
    assert (call.tool, call.arguments, call.content) == ("say", {"text": "hello"}, "hello")
    assert (call.server_id, call.server, call.at) == (made.id, "odd", len(SAID))
    assert [one.name for one in user.tools(made.id) if one.approved] == ["say"]
    user.forget_approvals(made.id)
    assert not any(one.approved for one in user.tools(made.id))
    assert user.update_conversation(conversation.id, tools=[]).tools == ()
    assert user.update_tool_server(made.id, name="other").name == "other"
    user.delete_tool_server(made.id)
    with pytest.raises(NotFound):
        user.tool_server(made.id)


def test_a_killed_service_leaves_no_call_waiting(
    person: Person, odd: OddServer, tooled: Service
) -> None:
    conversation = person.conversation(person.add(odd.url()))
    run_id = person.user.send(conversation, said("never"), model="tools").run_id
    wait_until(lambda: person.user.run(run_id).last_event >= 3)
    tooled.stop(signal.SIGKILL)
    tooled.start()
    assert person.user.run(run_id).state == "interrupted"
    call = person.messages(conversation)[1]["toolCalls"][0]
    assert call["content"] is None
    person.decide(run_id, call["id"], "once", 409)
