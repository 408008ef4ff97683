"""The kinds of credentials that can be kept, declared in one place.

To add a kind is to add an entry here: its fields, its default address and where one gets a key.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Field:
    """One named secret value of a credential."""

    name: str
    label: str
    required: bool = True
    max_length: int = 4096


@dataclass(frozen=True, slots=True)
class CredentialType:
    """`probe_path` is asked below the base URL, with the key, to see whether the key works."""

    id: str
    title: str
    default_base_url: str
    key_url: str
    fields: tuple[Field, ...]
    probe_path: str

    def field(self, name: str) -> Field | None:
        return next((field for field in self.fields if field.name == name), None)


OPENAI = CredentialType(
    id="openai",
    title="OpenAI",
    default_base_url="https://api.openai.com/v1",
    key_url="https://platform.openai.com/api-keys",
    fields=(Field("api_key", "API key"),),
    probe_path="models",
)

CREDENTIAL_TYPES: dict[str, CredentialType] = {kind.id: kind for kind in (OPENAI,)}
