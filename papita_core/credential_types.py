"""The kinds of credentials that can be kept, declared in one place.

To add a kind is to add an entry to `DECLARED`: its fields, its default address, where one gets a
key, how the key looks and how the provider is asked whether it works. The forms, the import of
`.env` files, the test and the API read all of that from here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

OPENAI_PROTOCOL = "openai"
MCP_PROTOCOL = "mcp"


@dataclass(frozen=True, slots=True)
class Field:
    """One named value of a credential; all values of one are sealed together.

    `secret` says that forms hide what is typed. `header` is the request header in which a value
    beside the key goes to the provider; `env_names` are the variables that hold it in `.env` files.
    """

    name: str
    label: str
    required: bool = True
    secret: bool = True
    max_length: int = 4096
    header: str | None = None
    env_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Probe:
    """The GET that tells whether a key works: `path` below the base URL, the key in `header`.

    `rejected` are the statuses with which this provider refuses a key.
    """

    path: str = "models"
    header: str = "Authorization"
    scheme: str = "Bearer "
    headers: tuple[tuple[str, str], ...] = ()
    rejected: frozenset[int] = frozenset({401, 403})


@dataclass(frozen=True, slots=True)
class CredentialType:
    """One kind of credential.

    `protocol` is what the provider speaks; a project that asks for a protocol gets any type of it.
    `default_base_url=None` means that the user has to give one, or, without `takes_base_url`, that
    there is none. `base_path` is added to a base URL that has no path. The first field is the key.

    `key_pattern` is how keys look as a rule, for a mild warning and never for a refusal;
    `key_prefixes` are beginnings that no other provider uses, so that a key can be recognised.
    With `own_fields`, the user names the fields.
    """

    id: str
    title: str
    summary: str
    protocol: str = OPENAI_PROTOCOL
    default_base_url: str | None = None
    takes_base_url: bool = True
    base_path: str = ""
    fields: tuple[Field, ...] = ()
    own_fields: bool = False
    key_url: str | None = None
    key_pattern: str | None = None
    key_prefixes: tuple[str, ...] = ()
    base_url_env_names: tuple[str, ...] = ()
    probe: Probe | None = Probe()

    @property
    def base_url_required(self) -> bool:
        return self.takes_base_url and self.default_base_url is None

    @property
    def key_required(self) -> bool:
        """Whether there is no such credential without a secret."""
        return self.own_fields or any(item.required for item in self.fields)

    @property
    def env_names(self) -> tuple[str, ...]:
        """The variables that hold the key itself."""
        return self.fields[0].env_names if self.fields else ()

    def field(self, name: str) -> Field | None:
        return next((field for field in self.fields if field.name == name), None)


def _key(*env_names: str, required: bool = True) -> Field:
    return Field("api_key", "API key", required=required, env_names=env_names)


OPENAI = CredentialType(
    id="openai",
    title="OpenAI",
    summary="The GPT models of OpenAI.",
    default_base_url="https://api.openai.com/v1",
    fields=(
        _key("OPENAI_API_KEY"),
        Field(
            "organization",
            "Organization",
            required=False,
            secret=False,
            max_length=200,
            header="OpenAI-Organization",
            env_names=("OPENAI_ORG_ID", "OPENAI_ORGANIZATION"),
        ),
        Field(
            "project",
            "Project",
            required=False,
            secret=False,
            max_length=200,
            header="OpenAI-Project",
            env_names=("OPENAI_PROJECT_ID", "OPENAI_PROJECT"),
        ),
    ),
    key_url="https://platform.openai.com/api-keys",
    key_pattern=r"sk-(?!ant-|or-)[A-Za-z0-9_-]{17,}",
    key_prefixes=("sk-proj-", "sk-svcacct-", "sk-admin-"),
    base_url_env_names=("OPENAI_BASE_URL", "OPENAI_API_BASE"),
)

DECLARED: tuple[CredentialType, ...] = (
    OPENAI,
    CredentialType(
        id="azure-openai",
        title="Azure OpenAI",
        summary="OpenAI models in your own Azure resource, by its v1 API.",
        base_path="/openai/v1",
        fields=(_key("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_KEY"),),
        key_url="https://ai.azure.com",
        key_pattern=r"[0-9a-fA-F]{32}|[A-Za-z0-9]{84}",
        base_url_env_names=("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_BASE_URL"),
        probe=Probe(header="api-key", scheme=""),
    ),
    CredentialType(
        id="anthropic",
        title="Anthropic",
        summary="The Claude models, at Anthropic's OpenAI-compatible address.",
        default_base_url="https://api.anthropic.com/v1",
        fields=(_key("ANTHROPIC_API_KEY"),),
        key_url="https://platform.claude.com/settings/keys",
        key_pattern=r"sk-ant-[A-Za-z0-9_-]{20,}",
        key_prefixes=("sk-ant-",),
        probe=Probe(header="x-api-key", scheme="", headers=(("anthropic-version", "2023-06-01"),)),
    ),
    CredentialType(
        id="google",
        title="Google Gemini",
        summary="The Gemini models, at Google's OpenAI-compatible address.",
        default_base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        fields=(_key("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GENERATIVE_AI_API_KEY"),),
        key_url="https://aistudio.google.com/apikey",
        key_pattern=r"AIza[A-Za-z0-9_-]{35}|AQ\.[A-Za-z0-9_-]{20,}",
        key_prefixes=("AIza",),
        probe=Probe(rejected=frozenset({400, 401, 403})),
    ),
    CredentialType(
        id="openrouter",
        title="OpenRouter",
        summary="Models of many providers with one key.",
        default_base_url="https://openrouter.ai/api/v1",
        fields=(_key("OPENROUTER_API_KEY"),),
        key_url="https://openrouter.ai/settings/keys",
        key_pattern=r"sk-or-[A-Za-z0-9_-]{20,}",
        key_prefixes=("sk-or-",),
        base_url_env_names=("OPENROUTER_BASE_URL",),
        probe=Probe("key"),  # the list of models is public there
    ),
    CredentialType(
        id="groq",
        title="Groq",
        summary="Open models on Groq's fast hardware.",
        default_base_url="https://api.groq.com/openai/v1",
        fields=(_key("GROQ_API_KEY"),),
        key_url="https://console.groq.com/keys",
        key_pattern=r"gsk_[A-Za-z0-9]{20,}",
        key_prefixes=("gsk_",),
    ),
    CredentialType(
        id="mistral",
        title="Mistral",
        summary="The models of Mistral AI.",
        default_base_url="https://api.mistral.ai/v1",
        fields=(_key("MISTRAL_API_KEY"),),
        key_url="https://console.mistral.ai/api-keys",
        key_pattern=r"[A-Za-z0-9]{32}",
    ),
    CredentialType(
        id="deepseek",
        title="DeepSeek",
        summary="The models of DeepSeek.",
        default_base_url="https://api.deepseek.com",
        fields=(_key("DEEPSEEK_API_KEY"),),
        key_url="https://platform.deepseek.com/api_keys",
        key_pattern=r"sk-[0-9a-f]{32,64}",
    ),
    CredentialType(
        id="xai",
        title="xAI",
        summary="The Grok models of xAI.",
        default_base_url="https://api.x.ai/v1",
        fields=(_key("XAI_API_KEY"),),
        key_url="https://console.x.ai",
        key_pattern=r"xai-[A-Za-z0-9]{20,}",
        key_prefixes=("xai-",),
        probe=Probe(rejected=frozenset({400, 401, 403})),
    ),
    CredentialType(
        id="ollama",
        title="Ollama",
        summary="Models on your own machine; no key is needed as a rule.",
        default_base_url="http://localhost:11434/v1",
        base_path="/v1",
        fields=(_key("OLLAMA_API_KEY", required=False),),
        base_url_env_names=("OLLAMA_BASE_URL", "OLLAMA_API_BASE"),
    ),
    CredentialType(
        id="vllm",
        title="vLLM",
        summary="Models that you serve yourself with vLLM.",
        base_path="/v1",
        fields=(_key("VLLM_API_KEY", required=False),),
        base_url_env_names=("VLLM_BASE_URL", "VLLM_API_BASE"),
    ),
    CredentialType(
        id="openai-compatible",
        title="OpenAI-compatible",
        summary="Any other provider that speaks the OpenAI protocol.",
        fields=(_key(required=False),),
    ),
    CredentialType(
        id="mcp-server",
        title="MCP server",
        summary="The token of a server of tools, for the address of that server alone.",
        protocol=MCP_PROTOCOL,
        fields=(Field("token", "Token"),),
        probe=None,
    ),
    CredentialType(
        id="generic",
        title="Other",
        summary="Named values for a project of your own. No provider is asked about them.",
        protocol="",
        takes_base_url=False,
        own_fields=True,
        probe=None,
    ),
)

CREDENTIAL_TYPES: dict[str, CredentialType] = {kind.id: kind for kind in DECLARED}

FIELD_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
MAX_OWN_FIELDS = 20


def types_for(asked: str) -> tuple[CredentialType, ...]:
    """The types that serve a project which asks for `asked`, a type's id or a protocol.

    The one of exactly that id comes first.
    """
    found = [kind for kind in CREDENTIAL_TYPES.values() if meets(kind.id, asked)]
    return tuple(sorted(found, key=lambda kind: kind.id != asked))


def meets(type_id: str, asked: str) -> bool:
    """Whether a credential of this type serves a project which asks for `asked`."""
    kind = CREDENTIAL_TYPES.get(type_id)
    return asked != "" and kind is not None and asked in (kind.id, kind.protocol)


def type_by_key(key: str) -> CredentialType | None:
    """The one type whose keys begin as this one does, or None where that tells nothing."""
    for kind in CREDENTIAL_TYPES.values():
        if key.startswith(kind.key_prefixes) and _looks_right(kind, key):
            return kind
    return None


def doubt(kind: CredentialType, key: str) -> str | None:
    """A sentence where a key does not look like one of this type; it may be right all the same."""
    if not key or _looks_right(kind, key):
        return None
    other = type_by_key(key)
    if other is not None and other.id != kind.id:
        return f"This looks like a key of {other.title}, not of {kind.title}. Check the type."
    begins = f" Those begin with {' or '.join(kind.key_prefixes)}." if kind.key_prefixes else ""
    return f"This does not look like a key of {kind.title}.{begins} Check it, or test it."


def _looks_right(kind: CredentialType, key: str) -> bool:
    return kind.key_pattern is None or re.fullmatch(kind.key_pattern, key) is not None
