"""Reading `.env` files: what is recognised, what is left out, and that no value is ever shown."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from papita_core.errors import InvalidInput
from papita_core.vault.importing import MAX_BYTES, read_env
from tests.papita_core.house import KEY, House
from tests.papita_core.starter import Done, Starter

GROQ = "gsk_" + "aB3d" * 13
XAI = "xai-" + "aB3d" * 13
ANTHROPIC = "sk-ant-api03-" + "aB3d" * 13
Command = Callable[..., Done]


def recognised(text: str) -> list[tuple[str, str, dict[str, str], str | None]]:
    return [
        (item.name, item.credential_type, item.secret, item.base_url)
        for item in read_env(text).candidates
    ]


def left_out(text: str) -> list[tuple[str, int]]:
    return [(item.name, item.line) for item in read_env(text).skipped]


@pytest.mark.parametrize(
    "line",
    [
        f"OPENAI_API_KEY={KEY}",
        f'OPENAI_API_KEY="{KEY}"',
        f"OPENAI_API_KEY='{KEY}'",
        f"export OPENAI_API_KEY={KEY}",
        f"OPENAI_API_KEY = {KEY}  # mine",
        f"\ufeffOPENAI_API_KEY={KEY}",
        f"\r\n# comment\r\nOPENAI_API_KEY={KEY}\r\nDEBUG=1\r\n",
        f"OPENAI_API_KEY=old\nOPENAI_API_KEY={KEY}",
    ],
)
def test_each_way_of_writing_a_variable(line: str):
    assert recognised(line) == [("OPENAI_API_KEY", "openai", {"api_key": KEY}, None)]


def test_nothing_is_interpolated(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME_KEY", "sk-of-the-host-0123456789")
    ((_, _, secret, _),) = recognised("OPENAI_API_KEY=${HOME_KEY}")
    assert secret == {"api_key": "${HOME_KEY}"}


def test_a_name_goes_before_the_look_of_a_value_and_the_longest_name_wins():
    text = f"""
AZURE_OPENAI_API_KEY={KEY}
AZURE_OPENAI_ENDPOINT=https://mine.openai.azure.com/
SOMETHING={XAI}
{GROQ}
"""
    assert recognised(text) == [
        (
            "AZURE_OPENAI_API_KEY",
            "azure-openai",
            {"api_key": KEY},
            "https://mine.openai.azure.com/",
        ),
        ("SOMETHING", "xai", {"api_key": XAI}, None),
        ("", "groq", {"api_key": GROQ}, None),
    ]
    assert left_out(text) == []


def test_several_of_one_type_keep_their_own_addresses():
    text = f"""
OPENAI_API_KEY={KEY}
OPENAI_ORG_ID=org-1
OPENAI_API_KEY_WORK={KEY}2
OPENAI_BASE_URL_WORK=https://work.example/v1
"""
    assert recognised(text) == [
        ("OPENAI_API_KEY", "openai", {"api_key": KEY, "organization": "org-1"}, None),
        ("OPENAI_API_KEY_WORK", "openai", {"api_key": f"{KEY}2"}, "https://work.example/v1"),
    ]
    labels = [item.label for item in read_env(text).candidates]
    assert labels == ["OpenAI", "OpenAI (OPENAI_API_KEY_WORK)"]


def test_where_no_key_is_needed_the_address_is_enough():
    text = "OLLAMA_BASE_URL=http://localhost:11434\n"
    assert recognised(text) == [("OLLAMA_BASE_URL", "ollama", {}, "http://localhost:11434")]
    assert read_env(text).candidates[0].hint == "no key"


@pytest.mark.parametrize(
    ("text", "name", "line", "words"),
    [
        ("DEBUG=1", "DEBUG", 1, "no key that is known"),
        ("\n\nDEBUG=1", "DEBUG", 3, "no key that is known"),
        ("OPENAI_API_KEY=", "OPENAI_API_KEY", 1, "no value"),
        ("OPENAI_API_KEY='two words'", "OPENAI_API_KEY", 1, "no key has"),
        ('OPENAI_API_KEY="line\nbreak"', "OPENAI_API_KEY", 1, "no key has"),
        (f"OPENAI_API_KEY={ANTHROPIC}", "OPENAI_API_KEY", 1, "looks like a key of Anthropic"),
        (f"AZURE_OPENAI_API_KEY={KEY}", "AZURE_OPENAI_API_KEY", 1, "needs a base URL"),
        ("OPENAI_BASE_URL=https://x.example", "OPENAI_BASE_URL", 1, "that key is not here"),
        ("OPENAI_ORG_ID=org-1", "OPENAI_ORG_ID", 1, "that key is not here"),
        ("some words", "", 1, "NAME=value"),
        ("'unfinished", "", 1, "NAME=value"),
        ("sk-unknown-0123456789abcdef", "", 1, "NAME=value"),
    ],
)
def test_what_is_left_out_is_named_with_its_line_and_a_reason(
    text: str, name: str, line: int, words: str
):
    found = read_env(text)
    assert found.candidates == []
    (skipped,) = found.skipped
    assert (skipped.name, skipped.line) == (name, line)
    assert words in skipped.reason
    assert skipped.reason.endswith(".")


def test_of_two_lines_the_last_one_counts_and_that_is_said():
    found = read_env(f"GROQ_API_KEY=first\nGROQ_API_KEY={GROQ}\n")
    assert found.candidates[0].secret == {"api_key": GROQ}
    (skipped,) = found.skipped
    assert (skipped.name, skipped.line, "later line" in skipped.reason) == ("GROQ_API_KEY", 1, True)


def test_the_same_value_twice_is_one_credential():
    found = read_env(f"GROQ_API_KEY={GROQ}\nGROQ_API_KEY_2={GROQ}\n{GROQ}\n{GROQ}\n")
    assert [item.name for item in found.candidates] == ["GROQ_API_KEY"]
    assert [item.line for item in found.skipped] == [2, 3, 4]


@pytest.mark.parametrize("text", [f"{XAI}=1", "AIzaCanary0123456789=1", "abcCanary=", f"{GROQ}="])
def test_a_key_in_the_place_of_a_name_is_not_shown(text: str):
    assert [item.name for item in read_env(text).skipped] == [""]


@pytest.mark.parametrize(
    "text", ["\n" * 1000, "X=" + "y" * MAX_BYTES, "X=" + "ü" * (MAX_BYTES // 2)]
)
def test_too_much_is_refused_in_a_sentence(text: str):
    with pytest.raises(InvalidInput) as caught:
        read_env(text)
    assert "1000 lines and 64 KiB" in str(caught.value)
    assert len(read_env("X=1\n" * 999).skipped) == 999


@given(st.text(max_size=300))
def test_whatever_is_pasted_is_read_and_no_value_is_shown(text: str):
    shown = repr(read_env(text + "\nOPENAI_API_KEY=canary-0123456789\nOTHER=canary-0123456789\n"))
    assert "canary" not in shown


# --- the command ---


@pytest.fixture
def command(house: House, starter: Starter) -> Command:
    house.environment["PATH"] = os.environ["PATH"]

    def run(*arguments: str, typed: str = "", **more: str) -> Done:
        environment = {**house.environment, **more}
        return starter.command(environment, "credentials", "import", *arguments, typed=typed)

    return run


def lines(done: Done) -> list[list[str]]:
    assert KEY not in done.output + done.errors
    return [line.split("\t") for line in done.output.splitlines()]


def test_the_command_tests_and_stores_what_it_recognises(
    house: House, command: Command, provider: str, tmp_path: Path
):
    house.environment["PAPITA_PROVIDER_ALLOWLIST"] = provider
    ana = house.sign_in("ana")
    file = tmp_path / "team.env"
    file.write_text(
        f"OPENAI_API_KEY={KEY}\nOPENAI_BASE_URL={provider}/v1\n"
        f"VLLM_API_KEY=rejected-there\nVLLM_BASE_URL={provider}/v1\n"
        "OLLAMA_BASE_URL=http://10.0.0.1/v1\nDEBUG=1\n"
    )
    done = command("--user", "Ana", str(file), "--project", "al-chat")
    assert (done.code, done.errors) == (0, "")
    said = {line[0]: line for line in lines(done)}
    ollama, vllm, stored, debug = (said[n] for n in ("Ollama", "vLLM", "OpenAI", "line 6"))
    assert "left out" in ollama[3]
    assert "PAPITA_PROVIDER_ALLOWLIST" in ollama[3]
    assert "left out: The provider rejects the key" in vllm[3]
    assert stored == ["OpenAI", "OpenAI", "••••cdef", "stored, ok"]
    assert debug[1] == "DEBUG"
    (info,) = house.papita.credentials.list(ana).items
    assert (info.status, info.project_id, info.hint) == ("ok", "al-chat", "••••cdef")
    event = house.papita.audit.entries(ana).items[0].event
    assert (event.action, event.actor_id, event.owner_id) == (
        *("credential.created", "operator", ana.user_id),
    )
    again = command("--user", "ana", str(file))
    assert again.code == 1  # one was rejected and one refused, so not all of it is there
    only = command("--user", "ana", "-", typed=f"OPENAI_API_KEY={KEY}\n")
    assert (only.code, lines(only)[0][3]) == (0, "there already")
    assert len(house.papita.credentials.list(ana).items) == 1


def test_untested_asks_nobody(house: House, command: Command):
    ana = house.sign_in("ana")
    done = command("--user", "ana", "-", "--untested", typed=f"OPENAI_API_KEY={KEY}\n{GROQ}\n")
    assert (done.code, [line[3] for line in lines(done)]) == (0, ["stored, untested"] * 2)
    found = house.papita.credentials.list(ana).items
    assert [(item.label, item.status) for item in found] == [
        ("OpenAI", "untested"),
        ("Groq", "untested"),
    ]


def test_the_command_says_what_is_wrong(house: House, command: Command, tmp_path: Path):
    house.user("ana")
    house.user("gus", "guest")
    nothing = command("--user", "ana", "-", typed="DEBUG=1\n")
    assert (nothing.code, nothing.errors) == (1, "no key was recognised\n")
    wrong = tmp_path / "wrong.env"
    wrong.write_bytes(b"\xff\xfe\x00")
    for code, arguments, typed, words in (
        (1, ("--user", "nobody", "-"), f"OPENAI_API_KEY={KEY}\n", "no user of this name"),
        (1, ("--user", "gus", "-", "--untested"), f"OPENAI_API_KEY={KEY}\n", "guest"),
        (2, ("--user", "ana", str(tmp_path / "none.env")), "", "cannot be read"),
        (2, ("--user", "ana", str(wrong)), "", "UTF-8"),
        (2, ("--user", "ana", "-"), "X=" + "y" * MAX_BYTES, "64 KiB"),
        (2, ("-",), "", "--user"),
    ):
        done = command(*arguments, typed=typed)
        assert (done.code, done.output, done.errors.count("\n")) == (code, "", 1), done
        assert words in done.errors
    bad = command("--user", "ana", "-", "--project", "x", typed=f"OPENAI_API_KEY={KEY}\n")
    assert bad.code == 1
    assert "no such project" in bad.output
