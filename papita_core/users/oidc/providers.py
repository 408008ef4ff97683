"""The identity providers of this portal, from the TOML file that `PAPITA_OIDC_FILE` names.

One table for each. Whatever is unknown or malformed is one `SettingsError`, whose message names the
file, the table and the key and repeats no value.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from papita_core.settings import SettingsError, origin_of

NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
MOST_PROVIDERS = 20
LOOPBACK = re.compile(r"http://(?:localhost|127\.0\.0\.1|\[::1\])(?::\d+)?(?:/|$)")

Role = Literal["administrator", "member", "guest"]
RANK: tuple[Role, ...] = ("guest", "member", "administrator")


class Provider(BaseModel):
    """One provider as its table describes it; a missing key has the default that stands here."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, strict=True)

    name: str
    title: str = Field(min_length=1, max_length=60)
    issuer: str = Field(max_length=300)
    client_id: str = Field(min_length=1, max_length=300)
    client_secret: SecretStr | None = None
    client_secret_file: str | None = None
    token_auth: Literal["client_secret_basic", "client_secret_post"] | None = None
    scopes: tuple[str, ...] = Field(("openid", "profile", "email"), strict=False)
    prompt: Literal["login", "select_account", "consent"] | None = None
    own_callback: bool = False
    sign_up: bool | Literal["approval"] = False
    role_default: Role | Literal["none"] = "member"
    groups_claim: str | None = Field(None, min_length=1, max_length=200)
    roles: dict[str, Role] = Field(default_factory=dict)
    trusted_email: bool | None = None
    logout_at_provider: bool = False

    @field_validator("title")
    @classmethod
    def _title(cls, value: str) -> str:
        if not value.isprintable() or value != value.strip():
            raise ValueError("use one line of text")
        return value

    @field_validator("issuer")
    @classmethod
    def _issuer(cls, value: str) -> str:
        origin_of(value)
        if not usable(value):
            raise ValueError("the address must begin with https://; http:// is for this machine")
        if "?" in value or "#" in value:
            raise ValueError("an issuer has neither ? nor #")
        return value

    @field_validator("scopes")
    @classmethod
    def _scopes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e]+", scope) for scope in value):
            raise ValueError("a scope has no spaces and no quotes")
        if "openid" not in value:
            raise ValueError("openid has to be among the scopes")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Provider:
        if (self.client_secret is None) == (self.client_secret_file is None):
            raise ValueError("client_secret: give this or client_secret_file, one of the two")
        if self.client_secret is not None and not self.client_secret.get_secret_value().strip():
            raise ValueError("client_secret: it is empty")
        if bool(self.roles) != (self.groups_claim is not None):
            raise ValueError("roles: they go together with groups_claim")
        return self

    @property
    def secret(self) -> str:
        return "" if self.client_secret is None else self.client_secret.get_secret_value()

    def role_of(self, groups: set[str]) -> str | None:
        """The highest role that one of these groups gives, else the default; None: none at all."""
        found = [self.roles[group] for group in groups if group in self.roles]
        if found:
            return max(found, key=RANK.index)
        return None if self.role_default == "none" else self.role_default


def usable(address: str) -> bool:
    """Whether secrets may be sent to this address: https, or a server on this machine."""
    return address.startswith("https://") or LOOPBACK.match(address) is not None


def load_providers(path: Path | None) -> dict[str, Provider]:
    """The providers by name, in the order of the file. Raises `SettingsError`."""
    if path is None:
        return {}
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise SettingsError("PAPITA_OIDC_FILE: there is no such file") from None
    except (OSError, UnicodeDecodeError):
        raise SettingsError("PAPITA_OIDC_FILE: the file cannot be read") from None
    except tomllib.TOMLDecodeError as error:
        # Its own words may quote a line, in which a secret may stand.
        place = re.search(r"\(at [^()]*\)$", str(error))
        raise SettingsError(
            f"PAPITA_OIDC_FILE: {path.name} is no TOML {place[0] if place else ''}".rstrip()
        ) from None
    if len(tables) > MOST_PROVIDERS:
        raise SettingsError(f"PAPITA_OIDC_FILE: at most {MOST_PROVIDERS} providers")
    found = {name: _provider(path, name, table) for name, table in tables.items()}
    issuers = [provider.issuer for provider in found.values()]
    for name, provider in found.items():
        if issuers.count(provider.issuer) > 1:
            raise _wrong(path, name, "issuer", "another table has it as well")
    return found


def _provider(path: Path, name: str, table: Any) -> Provider:
    if not isinstance(table, Mapping):
        raise SettingsError(
            f"PAPITA_OIDC_FILE: {path.name}: {_shown(name)} stands outside of a table;"
            " begin one, [corp] say"
        )
    if not NAME.fullmatch(name):
        raise SettingsError(
            f"PAPITA_OIDC_FILE: {path.name}: the name of a table takes up to 32 letters a to z,"
            " digits and dashes"
        )
    if "name" in table:
        raise _wrong(path, name, "name", "no such key")
    try:
        provider = Provider.model_validate({"name": name, **_lists(table)})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        reason = first["msg"].removeprefix("Value error, ")
        key = str(first["loc"][0]) if first["loc"] else ""
        if not key:
            key, _, reason = reason.partition(": ")
        if first["type"] == "extra_forbidden":
            reason = "no such key"
        elif first["type"] == "missing":
            reason = "it has to be there"
        raise _wrong(path, name, key, reason) from None
    if provider.client_secret_file is not None:
        secret = _secret(path, name, provider.client_secret_file)
        return provider.model_copy(update={"client_secret": SecretStr(secret)})
    return provider


def _lists(table: Mapping[str, Any]) -> dict[str, Any]:
    # TOML has no tuples; that its lists become one is no laxity in what they hold.
    values = dict(table)
    if isinstance(values.get("scopes"), list):
        values["scopes"] = tuple(values["scopes"])
    if isinstance(values.get("client_secret"), str):
        values["client_secret"] = SecretStr(values["client_secret"])
    return values


def _secret(path: Path, name: str, file: str) -> str:
    try:
        # A relative name is looked for beside the file that has it.
        secret = (path.parent / file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise _wrong(path, name, "client_secret_file", "the file cannot be read") from None
    if not secret:
        raise _wrong(path, name, "client_secret_file", "the file is empty")
    return secret


def _wrong(path: Path, table: str, key: str, reason: str) -> SettingsError:
    return SettingsError(f"PAPITA_OIDC_FILE: {path.name}: [{table}] {_shown(key)}: {reason}")


def _shown(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]{1,40}", key) else "a key"
