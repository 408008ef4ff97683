"""Every declared type: complete, stored, lent, imported, and its provider asked."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from papita_core.credential_types import (
    CREDENTIAL_TYPES,
    DECLARED,
    CredentialType,
    doubt,
    meets,
    type_by_key,
    types_for,
)
from papita_core.errors import InvalidInput
from papita_core.settings import origin_of
from papita_core.vault.importing import read_env
from papita_core.vault.probing import headers_of
from papita_core.vault.service import NewCredential, ReplaceCredential
from tests.papita_core.house import KEY, House

LIKE_REAL = {  # made up, in the form of each provider's keys
    "openai": "sk-proj-" + "aB3_" * 8,
    "azure-openai": "0123456789abcdef" * 2,
    "anthropic": "sk-ant-api03-" + "aB3_" * 8,
    "google": "AIza" + "aB3_-" * 7,
    "openrouter": "sk-or-v1-" + "0a1b" * 16,
    "groq": "gsk_" + "aB3d" * 13,
    "mistral": "aB3d" * 8,
    "deepseek": "sk-" + "0a1b" * 8,
    "xai": "xai-" + "aB3d" * 20,
}
WITH_PROBE = [kind for kind in DECLARED if kind.probe is not None]
every_type = pytest.mark.parametrize("kind", DECLARED, ids=lambda kind: kind.id)
every_probe = pytest.mark.parametrize("kind", WITH_PROBE, ids=lambda kind: kind.id)


def secret_of(kind: CredentialType, key: str = KEY) -> dict[str, str]:
    if kind.own_fields:
        return {"login": "ana", "pass_word": "two words"}
    return {kind.fields[0].name: key}


@every_type
def test_a_type_is_complete(kind: CredentialType):
    assert re.fullmatch(r"[a-z][a-z0-9-]{1,31}", kind.id)
    assert kind.title
    assert kind.summary.endswith(".")
    assert kind.own_fields == (not kind.fields)
    assert len({item.name for item in kind.fields}) == len(kind.fields)
    if kind.default_base_url is not None:
        assert kind.default_base_url == kind.default_base_url.rstrip("/")
        origin_of(kind.default_base_url)
    assert not (kind.default_base_url and not kind.takes_base_url)
    assert kind.takes_base_url or kind.probe is None
    if kind.key_url is not None:
        assert kind.key_url.startswith("https://")
    for item in kind.fields:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", item.name)
        assert item.label
        for name in (*item.env_names, *kind.base_url_env_names):
            assert re.fullmatch(r"[A-Z][A-Z0-9_]*", name)
    if kind.key_prefixes:
        assert kind.key_pattern
    if kind.key_pattern:
        assert kind.id in LIKE_REAL, "show how its keys look"


def test_what_is_declared_can_be_told_apart():
    assert len(CREDENTIAL_TYPES) == len(DECLARED)
    names = [name for kind in DECLARED for item in kind.fields for name in item.env_names]
    names += [name for kind in DECLARED for name in kind.base_url_env_names]
    assert len(set(names)) == len(names)
    for kind in DECLARED:
        for prefix in kind.key_prefixes:
            others = [other for other in DECLARED if other is not kind]
            assert not [other.id for other in others if prefix.startswith(other.key_prefixes)]


@every_type
def test_a_type_is_on_its_page_of_the_documentation(kind: CredentialType):
    page = Path(__file__).parents[3] / "docs" / "api.md"
    assert f"`{kind.id}`" in page.read_text("utf-8")


def test_a_project_that_asks_for_a_protocol_is_served_by_every_type_of_it():
    served = [kind.id for kind in types_for("openai")]
    assert served[0] == "openai"
    assert set(served) == {kind.id for kind in DECLARED if kind.protocol == "openai"}
    assert [kind.id for kind in types_for("groq")] == ["groq"]
    assert [kind.id for kind in types_for("generic")] == ["generic"]
    assert types_for("") == types_for("nothing") == ()
    assert meets("groq", "openai")
    assert meets("groq", "groq")
    assert not meets("openai", "groq")
    assert not meets("generic", "")
    assert not meets("nothing", "nothing")


@pytest.mark.parametrize(("type_id", "key"), LIKE_REAL.items())
def test_a_key_of_the_usual_form_raises_no_doubt(type_id: str, key: str):
    kind = CREDENTIAL_TYPES[type_id]
    assert doubt(kind, key) is None
    assert type_by_key(key) == (kind if kind.key_prefixes else None)


def test_a_key_of_another_form_raises_a_doubt_and_is_stored_all_the_same(house: House):
    groq = CREDENTIAL_TYPES["groq"]
    said = [doubt(groq, LIKE_REAL["openai"]), doubt(groq, "sk-canary-0123456789abcdef")]
    assert "a key of OpenAI, not of Groq" in str(said[0])
    assert "gsk_" in str(said[1])
    assert "canary" not in str(said)
    assert doubt(groq, "") is None
    assert doubt(CREDENTIAL_TYPES["openai-compatible"], "anything") is None
    ana = house.sign_in("ana")
    new = NewCredential("groq", {"api_key": "sk-canary-0123456789abcdef"})
    assert house.papita.credentials.create(ana, new).credential_type == "groq"


@every_type
def test_a_type_is_stored_listed_lent_and_replaced(kind: CredentialType, house: House):
    house.environment["PAPITA_PROVIDER_ALLOWLIST"] = "http://localhost:11434"
    ana = house.sign_in("ana")
    token = house.project_token(ana)
    base_url = "https://ai.example" if kind.base_url_required else None
    new = NewCredential(kind.id, secret_of(kind), base_url=base_url)
    info = house.papita.credentials.create(ana, new)
    assert house.papita.credentials.list(ana).items == [info]
    assert info.label == kind.title
    expected = f"https://ai.example{kind.base_path}" if base_url else kind.default_base_url or ""
    assert info.base_url == expected
    if kind.protocol == "openai":
        assert house.lend(token, "ana").secret == secret_of(kind)
    with house.papita.database.write() as session:
        row = house.papita.credentials._mine(session, ana, info.id)
        assert house.papita.credentials.unsealed(session, row) == secret_of(kind)
    renamed = ReplaceCredential(label="other", base_url=info.base_url or None)
    changed = house.papita.credentials.replace(ana, info.id, renamed, etag=info.etag)
    assert (changed.label, changed.hint) == ("other", info.hint)


@every_probe
def test_the_provider_is_asked_as_the_type_says(kind: CredentialType, house: House, provider: str):
    house.environment["PAPITA_PROVIDER_ALLOWLIST"] = provider
    ana = house.sign_in("ana")
    for key, status in ((KEY, "ok"), ("no-key-of-the-demo", "rejected")):
        new = NewCredential(kind.id, secret_of(kind, key), base_url=f"{provider}/v1")
        assert house.papita.credentials.test_secret(ana, new).status == status
        info = house.papita.credentials.create(ana, new)
        assert house.papita.credentials.test(ana, info.id).status == status
        assert house.papita.credentials.get(ana, info.id).status == status


@every_probe
def test_a_type_is_recognised_in_a_file_and_stored(
    kind: CredentialType, house: House, provider: str
):
    house.environment["PAPITA_PROVIDER_ALLOWLIST"] = provider
    if not kind.env_names:
        assert kind.id == "openai-compatible"  # whose it is cannot be told from a name
        return
    for name in kind.env_names:
        text = f"{name}={KEY}\n"
        if kind.base_url_env_names:
            text += f"{kind.base_url_env_names[0]}={provider}/v1\n"
        found = read_env(text)
        if kind.base_url_required and not kind.base_url_env_names:
            assert found.candidates == []
            continue
        (candidate,) = found.candidates
        assert (candidate.credential_type, candidate.secret) == (kind.id, {"api_key": KEY})
        new = replace(candidate.new(), base_url=f"{provider}/v1")
        ana = house.sign_in(f"ana-{name.lower()}")
        tested = house.papita.credentials.test_secret(ana, new)
        assert tested.status == "ok"
        (info,) = house.papita.credentials.create_many(ana, [new], tested=[tested])
        assert (info.status, info.hint) == ("ok", "••••cdef")


def test_values_beside_the_key_go_to_the_provider_as_headers(house: House):
    kind = CREDENTIAL_TYPES["openai"]
    assert kind.probe is not None
    secret = {"api_key": KEY, "organization": "org-1", "project": "proj-1"}
    assert headers_of(kind, kind.probe, secret) == {
        "Authorization": f"Bearer {KEY}",
        "OpenAI-Organization": "org-1",
        "OpenAI-Project": "proj-1",
    }
    info = house.papita.credentials.create(house.sign_in("ana"), NewCredential("openai", secret))
    assert info.hint == "••••cdef"


def test_a_type_without_a_provider_is_not_tested(house: House):
    ana = house.sign_in("ana")
    info = house.papita.credentials.create(ana, NewCredential("generic", {"name": "x"}))
    assert (info.base_url, info.hint) == ("", "1 field")
    assert house.papita.credentials.test(ana, info.id).status == "untested"
    assert house.papita.credentials.get(ana, info.id) == info
    changed = house.papita.credentials.replace(
        ana, info.id, ReplaceCredential(label="x"), etag=info.etag, test_first=True
    )
    assert changed.status == "untested"


@pytest.mark.parametrize(
    "secret",
    [
        {},
        {f"f{number}": "x" for number in range(21)},
        {"Name": "x"},
        {"": "x"},
        {"1a": "x"},
        {"a" * 65: "x"},
        {"sk-canary": "x"},
        {"a": ""},
        {"a": " "},
        {"a": "x" * 4097},
        {"a": "\0"},
        {"a": "\ud800"},
    ],
)
def test_own_fields_that_cannot_be_are_refused(house: House, secret: dict[str, str]):
    with pytest.raises(InvalidInput) as caught:
        house.papita.credentials.create(house.sign_in("ana"), NewCredential("generic", secret))
    assert list(caught.value.errors) == ["credentials"]
    assert "canary" not in str(caught.value)


def test_a_base_url_is_needed_or_refused_as_the_type_says(house: House):
    ana = house.sign_in("ana")
    for new in (
        NewCredential("azure-openai", {"api_key": KEY}),
        NewCredential("openai-compatible", {}),
        NewCredential("generic", {"a": "x"}, base_url="https://ai.example"),
    ):
        with pytest.raises(InvalidInput) as caught:
            house.papita.credentials.create(ana, new)
        assert list(caught.value.errors) == ["baseUrl"]
