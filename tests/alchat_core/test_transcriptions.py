"""Recordings that the user's provider turns into text."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from conftest import ScriptedProvider, Service, wait_until
from fake_papita import FakePapita

from alchat_core.client import AlChatClient, AlChatProblem, Conflict, UserClient
from alchat_core.providers.transcribing import audio_type, for_chat, transcriber
from demo.provider.recordings import HEARING_PREFIX, heard
from tests.alchat_core.starter import Starter
from tests.recordings import recording

HEARING_KEY = f"{HEARING_PREFIX}canary-2d8f0b"
WEBM = b"\x1a\x45\xdf\xa3" + bytes(60)


@pytest.fixture
def hearing(papita: FakePapita) -> FakePapita:
    """A key whose provider lists a model that transcribes."""
    papita.api_key = HEARING_KEY
    return papita


@pytest.mark.parametrize(
    ("listed", "chosen"),
    [
        (["gpt-4o", "whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe"], 3),
        (["distil-whisper-large-v3-en", "whisper-large-v3", "whisper-large-v3-turbo"], 2),
        (["openai/gpt-4o", "openai/whisper-1"], 1),
        (["Systran/faster-whisper-small", "Systran/faster-whisper-base"], 0),
        (["gpt-4o-transcribe-diarize", "voxtral-mini-transcribe-realtime-2602", "gpt-4o"], None),
        (["gpt-4o", "tts-1", "gpt-audio"], None),
        ([], None),
    ],
)
def test_a_model_is_known_by_its_name(listed: list[str], chosen: int | None) -> None:
    assert transcriber(listed) == (None if chosen is None else listed[chosen])


def test_models_that_only_transcribe_are_no_choice_for_a_chat() -> None:
    listed = ("gpt-4o", "whisper-1", "gpt-4o-mini-transcribe", "gpt-4o-transcribe-diarize", "o3")
    assert for_chat(listed) == ("gpt-4o", "o3")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (recording(0.01), "audio/wav"),
        (WEBM, "audio/webm"),
        (b"OggS" + bytes(40), "audio/ogg"),
        (b"\0\0\0\x20ftypM4A " + bytes(40), "audio/mp4"),
        (b"ID3\x04" + bytes(40), "audio/mpeg"),
        (b"\xff\xfb\x90\x64" + bytes(40), "audio/mpeg"),
        (b"\xff\xf1\x50\x80" + bytes(40), None),  # AAC by itself
        (b"RIFF\0\0\0\0AVI " + bytes(40), None),
        (b"words", None),
        (b"\xff", None),
        (b"", None),
    ],
)
def test_a_recording_is_known_by_its_bytes(data: bytes, kind: str | None) -> None:
    assert audio_type(data) == kind


def test_what_is_said_comes_back(
    user: UserClient, hearing: FakePapita, username: str, service: Service
) -> None:
    models = user.model_list()
    assert models.transcribes == "whisper-demo"
    assert "whisper-demo" not in [model.id for model in models]
    for data, kind, name in ((recording(1.5), "audio/wav", "a.wav"), (WEBM, "video/x", "a.webm")):
        assert user.transcribe(data, kind) == heard(data, name)
    assert user.transcribe(recording(2), "audio/wav", "de") == "I heard 2.0 seconds of WAV in de."
    # Each has a loan of its own on the record, and what it used is reported; its price nobody
    # knows, since that of text is not that of speech.
    made = [run for run in hearing.runs[username] if run is not None]
    assert len(set(made)) == 3
    assert {run.partition("_")[0] for run in made} == {"transcription"}
    wait_until(lambda: all(f"{run}-1" in hearing.usage for run in made))
    used = hearing.usage[f"{made[0]}-1"]
    assert (used["model"], used["promptTokens"], used["costUsd"]) == ("whisper-demo", 10, None)
    log = service.log.read_text()
    assert "transcription asked for" in log
    for secret in ("I heard", "seconds of WAV", HEARING_KEY):
        assert secret not in log


def test_a_provider_without_such_a_model_is_not_asked(
    user: UserClient, papita: FakePapita, provider: ScriptedProvider
) -> None:
    assert user.model_list().transcribes is None
    asked = provider.requests()["total"]
    with pytest.raises(Conflict) as refused:
        user.transcribe(recording(), "audio/wav")
    assert refused.value.code == "transcription-unavailable"
    assert provider.requests()["total"] == asked


def post(service: Service, papita: FakePapita, name: str, **form: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {papita.token_for(name)}"}
    return requests.post(f"{service.url}/api/transcriptions", headers=headers, timeout=20, **form)


@pytest.mark.parametrize(
    ("form", "status", "code"),
    [
        ({"files": {"file": ("a.wav", b"words")}}, 415, "recording-unsupported"),
        ({"files": {"file": ("a.wav", b"")}}, 415, "recording-unsupported"),
        ({"files": {"audio": ("a.wav", WEBM)}}, 422, "invalid-input"),
        ({"files": {"language": (None, "en")}}, 422, "invalid-input"),
        ({"files": {"file": (None, "words")}}, 422, "invalid-input"),
        ({"files": {"file": ("a", WEBM)}, "data": {"language": "English"}}, 422, "invalid-input"),
        ({"files": {"file": ("a", WEBM)}, "data": {"model": "gpt"}}, 422, "invalid-input"),
        ({"files": [("file", ("a", WEBM)), ("file", ("b", WEBM))]}, 422, "invalid-input"),
        ({"json": {"file": "words"}}, 422, "invalid-input"),
        (
            {"data": b"nothing", "headers": {"Content-Type": "multipart/form-data"}},
            422,
            "invalid-input",
        ),
    ],
)
def test_other_forms_are_refused_before_a_key_is_borrowed(
    service: Service,
    papita: FakePapita,
    username: str,
    form: dict[str, Any],
    status: int,
    code: str,
) -> None:
    headers = {**form.pop("headers", {}), "Authorization": f"Bearer {papita.token_for(username)}"}
    url = f"{service.url}/api/transcriptions"
    answer = requests.post(url, headers=headers, timeout=20, **form)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert papita.loans[username] == 0


@pytest.fixture(scope="module")
def failing(
    tmp_path_factory: pytest.TempPathFactory,
    _papita: FakePapita,
    provider: ScriptedProvider,
    starter: Starter,
) -> Iterator[Callable[..., Service]]:
    """A service whose setting names the model; one for each."""
    running: dict[str, Service] = {}

    def start(model: str, **settings: str) -> Service:
        if model not in running:
            running[model] = Service(
                tmp_path_factory.mktemp("hears"),
                _papita.url,
                provider.origin,
                starter,
                ALCHAT_TRANSCRIPTION_MODEL=model,
                ALCHAT_RECORDING_BYTES="40000",
                **settings,
            )
            running[model].start()
        return running[model]

    yield start
    for service in running.values():
        service.stop()


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("whisper-error-401", 409, "credential-rejected"),
        ("whisper-error-429", 429, "rate-limited"),
        ("whisper-error-quota", 429, "quota-exceeded"),
        ("whisper-error-500", 502, "provider-error"),
        ("whisper-error-context", 413, "context-too-long"),
        ("whisper-flaky-9-400", 422, "bad-request"),
        ("whisper-unknown", 404, "model-not-found"),
        ("whisper-malformed", 502, "provider-error"),
        ("whisper-cut-1", 503, "provider-unreachable"),
        ("whisper-hang", 504, "provider-timeout"),
    ],
)
def test_failures_of_the_provider_have_their_codes(
    failing: Callable[..., Service], papita: FakePapita, model: str, status: int, code: str
) -> None:
    service = failing(model, ALCHAT_FIRST_TOKEN_TIMEOUT="2.0")
    client = AlChatClient(service.url)
    user = client.as_user(lambda: papita.token_for("ann"))
    # The setting goes before what the provider lists.
    assert user.model_list().transcribes == model
    with pytest.raises(AlChatProblem) as refused:
        user.transcribe(recording(), "audio/wav")
    assert (refused.value.status, refused.value.code) == (status, code)
    if code == "rate-limited":
        assert refused.value.retry_after == 7
    # Nothing of chats, where no model is chosen for this.
    assert not re.search("conversation|another model", refused.value.detail)
    client.close()


def test_nothing_heard_is_no_error(failing: Callable[..., Service], papita: FakePapita) -> None:
    answer = post(failing("whisper-empty"), papita, "ann", files={"file": ("a", WEBM)})
    assert (answer.status_code, answer.json()) == (200, {"text": ""})


def test_a_provider_that_is_down_is_left_alone_after_a_while(
    own_service: Callable[..., Service], papita: FakePapita, provider: ScriptedProvider
) -> None:
    service = own_service(
        ALCHAT_TRANSCRIPTION_MODEL="whisper-error-500", ALCHAT_BREAKER_FAILURES="2"
    )
    for _ in range(2):
        post(service, papita, "ann", files={"file": ("a", WEBM)})
    asked = provider.requests()["total"]
    answer = post(service, papita, "ann", files={"file": ("a", WEBM)})
    assert answer.json()["code"] == "provider-unreachable"
    assert int(answer.headers["Retry-After"]) > 0
    assert provider.requests()["total"] == asked


def test_addresses_are_guarded_as_for_answers(
    own_service: Callable[..., Service], papita: FakePapita
) -> None:
    service = own_service(
        ALCHAT_TRANSCRIPTION_MODEL="whisper-demo", PAPITA_PROVIDER_ALLOWLIST="http://127.0.0.1:9"
    )
    answer = post(service, papita, "ann", files={"file": ("a", WEBM)})
    assert answer.json()["code"] == "bad-request"
    assert "PAPITA_PROVIDER_ALLOWLIST" in answer.json()["detail"]


def test_a_recording_may_have_so_many_bytes(
    failing: Callable[..., Service], papita: FakePapita
) -> None:
    service = failing("whisper-empty")
    for size, status in ((40_000, 200), (40_001, 413), (200_000, 413)):
        data = WEBM + bytes(size - len(WEBM))
        answer = post(service, papita, "ann", files={"file": ("a", data)})
        assert answer.status_code == status
        assert status == 200 or answer.json()["code"] == "body-too-large"


def test_it_ends_where_the_loan_does(
    failing: Callable[..., Service], papita: FakePapita, provider: ScriptedProvider, username: str
) -> None:
    service = failing("whisper-slow-first-15000", ALCHAT_LEASE_CHECK_SECONDS="0.1")
    answers: list[requests.Response] = []

    def ask() -> None:
        answers.append(post(service, papita, username, files={"file": ("a", WEBM)}))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: provider.requests()["open"] == 3)
    # No more than that at once.
    refused = post(service, papita, username, files={"file": ("a", WEBM)})
    assert (refused.status_code, refused.json()["code"]) == (429, "too-many-uploads")
    papita.ended[username] = "consent-required"
    for thread in threads:
        thread.join(10)
    assert [answer.json()["code"] for answer in answers] == ["consent-required"] * 3
    wait_until(lambda: provider.requests()["open"] == 0)
    papita.ended.clear()
    again = post(failing("whisper-empty"), papita, username, files={"file": ("a", WEBM)})
    assert again.ok
