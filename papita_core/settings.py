"""Papita's settings: from the environment, then from a TOML file, then the defaults.

Whatever is unknown or malformed is one `SettingsError`, whose message names the setting.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

PREFIXES = ("PAPITA_", "ALCHAT_")


class SettingsError(Exception):
    """A setting that cannot be used; the message is one line and names it."""


class Settings(BaseModel):
    """What `papita_core` needs to know. Field `x` is the setting `PAPITA_X`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    host: str = Field("127.0.0.1", description="Address on which the portal listens.")
    port: int = Field(3000, ge=1, le=65535, description="Port on which the portal listens.")
    data_dir: Path = Field(Path("data"), description="Folder of databases and run-time files.")
    database_url: str | None = Field(
        None,
        description="SQLAlchemy URL (SQLite or PostgreSQL). Default: SQLite in the data folder.",
        repr=False,  # it may hold a password
    )
    master_key: SecretStr | None = Field(
        None,
        description="The master key: 32 bytes, base64 or hex. See also PAPITA_MASTER_KEY_FILE.",
    )
    master_key_file: Path | None = Field(None, description="File that holds the master key.")
    master_key_uri: str | None = Field(
        None,
        description="Master key that a service keeps: aws-kms:<key id, arn or alias> or"
        " vault-transit:<mount>/<key>.",
    )
    signing_key_days: int = Field(
        90, ge=1, le=3650, description="The key that signs user tokens is changed after these days."
    )
    public_url: str | None = Field(
        None,
        description="How browsers reach the portal. Default: http://localhost:<port>."
        " https switches Secure cookies on.",
    )
    trusted_proxies: tuple[str, ...] = Field(
        (),
        description="Networks of the reverse proxies in front, comma-separated (10.0.0.0/8). From"
        " them alone X-Forwarded-For and X-Forwarded-Proto count.",
    )
    provider_allowlist: tuple[str, ...] = Field(
        (),
        description="Origins, comma-separated, that may be called although their address is not"
        " a global one, for example http://127.0.0.1:11434.",
    )
    resolve_limit: str = Field(
        "6000/minute", description="Loans of a key per user and project: <count>/<unit>."
    )
    session_idle_minutes: int = Field(
        1440, ge=5, description="A sign-in session ends after this long without use."
    )
    session_days: int = Field(
        14, ge=1, le=365, description="A sign-in session ends after this many days in any case."
    )
    session_hours: int = Field(
        12,
        ge=1,
        le=720,
        description="The same for whoever does not choose to be kept signed in, in hours.",
    )
    oidc_file: Path | None = Field(
        None,
        description="TOML file with the OpenID Connect providers that sign users in.",
    )
    client_id: str = Field(
        "al-chat", description="AL-Chat's client id towards Papita.", alias="ALCHAT_CLIENT_ID"
    )
    client_secret: SecretStr | None = Field(
        None,
        description="AL-Chat's client secret. Default: generated on first run.",
        alias="ALCHAT_CLIENT_SECRET",
    )
    client_secret_file: Path | None = Field(
        None,
        description="File that holds AL-Chat's client secret.",
        alias="ALCHAT_CLIENT_SECRET_FILE",
    )
    log_level: str = Field("info", description="debug, info, warning or error.")

    known_elsewhere: ClassVar[frozenset[str]] = frozenset()

    @field_validator("provider_allowlist", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            value = tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("provider_allowlist")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(origin_of(item) for item in value)

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            networks = [ipaddress.ip_network(item) for item in value]
        except ValueError:
            raise ValueError(
                "write networks as 10.0.0.0/8 or fd00::/8, or single addresses, comma-separated"
            ) from None
        if any(network.prefixlen == 0 for network in networks):
            raise ValueError("this would believe everybody; name the networks of your proxies")
        return tuple(str(network) for network in networks)

    @field_validator("public_url")
    @classmethod
    def _public_url(cls, value: str | None) -> str | None:
        return None if value is None else origin_of(value)

    @field_validator("master_key_uri")
    @classmethod
    def _master_key_uri(cls, value: str | None) -> str | None:
        if value and not re.fullmatch(r"aws-kms:[^\s]+|vault-transit:[^\s/]+(/[^\s/]+)+", value):
            raise ValueError(
                "write it as aws-kms:<key id, arn or alias> or vault-transit:<mount>/<key>"
            )
        return value

    @field_validator("resolve_limit")
    @classmethod
    def _limit(cls, value: str) -> str:
        if not re.fullmatch(r"[1-9]\d*/(second|minute|hour|day)", value):
            raise ValueError("write it as <count>/<second|minute|hour|day>")
        return value

    @field_validator("log_level")
    @classmethod
    def _level(cls, value: str) -> str:
        if value.lower() not in ("debug", "info", "warning", "error"):
            raise ValueError("use debug, info, warning or error")
        return value.lower()

    @field_validator("database_url")
    @classmethod
    def _database(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            url = make_url(value)
        except (ArgumentError, ValueError):  # its own words repeat the URL
            raise ValueError("this is not a database URL") from None
        if not re.fullmatch(r"sqlite(\+pysqlite)?|postgresql(\+psycopg)?", url.drivername):
            raise ValueError("use a sqlite:// or postgresql+psycopg:// URL")
        if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
            raise ValueError("name a file: a database in memory is gone with the process")
        return value

    @property
    def keys_dir(self) -> Path:
        """Where generated keys lie: beside the data folder, never inside it."""
        return self.data_dir.absolute().parent / "keys"

    @property
    def database(self) -> str:
        if self.database_url:
            return re.sub(r"^postgresql://", "postgresql+psycopg://", self.database_url)
        return f"sqlite:///{self.data_dir.absolute() / 'papita.db'}"

    @property
    def origin(self) -> str:
        """The portal's own origin, as a browser sees it."""
        return self.public_url or f"http://localhost:{self.port}"

    @property
    def secure(self) -> bool:
        return self.origin.startswith("https:")

    @property
    def cookie_name(self) -> str:
        return "__Host-papita_session" if self.secure else "papita_session"

    @classmethod
    def names(cls) -> dict[str, str]:
        """Setting name → field name, for each field of this class."""
        return {
            (info.alias or f"PAPITA_{name}").upper(): name
            for name, info in cls.model_fields.items()
        }

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None) -> Self:
        """The settings in force. Raises `SettingsError`."""
        return load_settings(cls, cls.names(), environment, cls.known_elsewhere)


# Settings that only AL-Chat or the portal reads; both run in one environment as a rule.
ELSEWHERE = re.compile(r"ALCHAT_[A-Z_]+|PAPITA_API_URL|PAPITA_CONFIG")

SettingsT = TypeVar("SettingsT", bound=BaseModel)


def load_settings(
    model: type[SettingsT],
    names: Mapping[str, str],
    environment: Mapping[str, str] | None = None,
    known_elsewhere: frozenset[str] = frozenset(),
) -> SettingsT:
    """Reads `names` (setting → field) from the environment over the TOML file."""
    env = os.environ if environment is None else environment
    found: dict[str, Any] = {}
    for source, values in (("the configuration file", _file(env)), ("the environment", env)):
        for name, value in values.items():
            upper = name.upper()
            if not upper.startswith(PREFIXES):
                if source != "the environment":
                    raise SettingsError(f"{name}: no such setting (in {source})")
                continue
            if upper in names:
                if value != "":
                    found[upper] = value
            elif not ELSEWHERE.fullmatch(upper) and upper not in known_elsewhere:
                raise SettingsError(f"{upper}: no such setting (in {source})")
    aliases = {info.alias for info in model.model_fields.values() if info.alias}
    try:
        return model.model_validate(
            {(name if name in aliases else names[name]): value for name, value in found.items()}
        )
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = str(first["loc"][0])
        setting = next((n for n, f in names.items() if field in (f, n)), field.upper())
        reason = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{setting}: {reason}") from None


def _file(environment: Mapping[str, str]) -> Mapping[str, Any]:
    named = environment.get("PAPITA_CONFIG")
    path = Path(named or "papita.toml")
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if named:
            raise SettingsError("PAPITA_CONFIG: there is no such file") from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"PAPITA_CONFIG: the file cannot be read: {error}") from None


def origin_of(url: str) -> str:
    """`scheme://host[:port]` of an http(s) URL, lower case, default port left out.

    Raises ValueError for anything else: no host, another scheme, user names, spaces. Its message
    holds nothing of the URL, in which somebody may have typed a key.
    """
    url = url.strip()
    if re.search(r"[\s\\]", url) or not url.isprintable():
        raise ValueError("the address must not contain spaces or signs that no address has")
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        host = host if host.isascii() else host.encode("idna").decode()
    except ValueError:  # its own words repeat the host
        raise ValueError("the address needs a valid host") from None
    scheme = parts.scheme.lower()
    if scheme not in ("http", "https"):
        raise ValueError("the address must begin with https:// or http://")
    if not host or parts.username is not None or parts.password is not None:
        raise ValueError("the address needs a host, and no user name in it")
    if len(host) > 253:
        raise ValueError("the address needs a valid host")
    try:
        port = parts.port
    except ValueError:
        raise ValueError("the port must be a number up to 65535") from None
    if ":" in host:
        host = f"[{host}]"
    default = {"http": 80, "https": 443}[scheme]
    return f"{scheme}://{host.lower()}" + ("" if port in (None, default) else f":{port}")
