"""Checks of what a user typed for a credential.

Each check puts a sentence for its field into `errors`; none repeats what was typed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit

from papita_core.credential_types import (
    CREDENTIAL_TYPES,
    FIELD_NAME,
    MAX_OWN_FIELDS,
    CredentialType,
    Field,
    meets,
)
from papita_core.errors import InvalidInput
from papita_core.projects.catalogue import PROJECTS
from papita_core.settings import origin_of
from papita_core.usage.budgets import Budget, Keep, wrong
from papita_core.vault.records import NewCredential, ReplaceCredential

MAX_YEAR = 9998  # one less than there are, so that a change of zone does not overflow
NO_KEY = "no key"
Errors = dict[str, str]


@dataclass(frozen=True, slots=True)
class Checked:
    """Input that can be stored. `secret` is None where the one that is there stays."""

    label: str
    project_id: str | None
    base_url: str
    origin: str
    expires_at: datetime | None
    secret: dict[str, str] | None = field(repr=False)
    budget: Budget | None = None


def known_type(type_id: str) -> CredentialType:
    """Raises `InvalidInput` for a type that is not declared."""
    kind = CREDENTIAL_TYPES.get(type_id)
    if kind is None:
        known = ", ".join(CREDENTIAL_TYPES)
        raise InvalidInput({"credentialType": f"There is no such type. There are: {known}."})
    return kind


def checked(
    kind: CredentialType,
    new: NewCredential | ReplaceCredential,
    now: datetime,
    allowlist: Collection[str],
    *,
    expires_before: datetime | None = None,
    budget_before: Budget | None = None,
) -> Checked:
    """What can be stored of `new`. Raises `InvalidInput` with all errors at once.

    `expires_before` is the expiry that is in force: it may stay although it has passed;
    `budget_before` the budget, for a change that keeps it.
    """
    errors: Errors = {}
    base_url, origin = _base_url(kind, new.base_url, allowlist, errors)
    secret = None if new.secret is None else _secret(kind, new.secret, errors)
    label = _label(new.label, kind, errors)
    _project(new.project_id, kind, errors)
    expires_at = expires_before
    if new.expires_at != expires_before:
        expires_at = _expiry(new.expires_at, now, errors)
    budget = budget_before if isinstance(new.budget, Keep) else new.budget
    sentence = None if budget is None else wrong(budget, new.project_id)
    if sentence is not None:
        errors["budget"] = sentence
    if errors:
        raise InvalidInput(errors)
    return Checked(label, new.project_id, base_url, origin, expires_at, secret, budget)


def hint(kind: CredentialType, secret: Mapping[str, str]) -> str:
    """The end of a long key, dots for a short one, and words where there is none."""
    if kind.own_fields:
        return "1 field" if len(secret) == 1 else f"{len(secret)} fields"
    value = secret.get(kind.fields[0].name, "")
    if not value:
        return NO_KEY
    return f"••••{value[-4:]}" if len(value) >= 16 else "••••"


def _base_url(
    kind: CredentialType, url: str | None, allowlist: Collection[str], errors: Errors
) -> tuple[str, str]:
    url = (url or "").strip().rstrip("/")
    if not kind.takes_base_url:
        if url:
            errors["baseUrl"] = "This type has no base URL. Leave it empty."
        return "", ""
    if not url and kind.default_base_url is None:
        errors["baseUrl"] = "This type needs a base URL. Enter the address of the API."
        return "", ""
    url = url or kind.default_base_url or ""
    try:
        origin = origin_of(url)
    except ValueError as error:
        errors["baseUrl"] = f"The base URL cannot be used: {error}."
        return "", ""
    parts = urlsplit(url)
    if len(url) > 2048 or parts.query or parts.fragment:
        errors["baseUrl"] = "The base URL has no question mark, no # and at most 2048 characters."
    elif parts.scheme.lower() == "http" and origin not in allowlist:
        errors["baseUrl"] = (
            "The base URL must begin with https://, so that the key is not sent in clear."
            " An administrator can allow this address with PAPITA_PROVIDER_ALLOWLIST."
        )
    return origin + (parts.path or kind.base_path), origin


def _secret(kind: CredentialType, secret: Mapping[str, str], errors: Errors) -> dict[str, str]:
    if kind.own_fields:
        return _own_fields(secret, errors)
    if any(kind.field(name) is None for name in secret):
        names = ", ".join(item.name for item in kind.fields)
        errors["credentials"] = f"This type takes these fields only: {names}."
    found: dict[str, str] = {}
    for item in kind.fields:
        value = _value(item, secret.get(item.name, ""), errors)
        if value:
            found[item.name] = value
    return found


def _value(item: Field, value: str, errors: Errors) -> str | None:
    value = value.strip()
    if not value:
        if item.required:
            errors[item.name] = f"Enter the {item.label}."
        return None
    if len(value) > item.max_length:
        errors[item.name] = f"The {item.label} may have at most {item.max_length} characters."
    elif not value.isascii() or not value.isprintable() or " " in value:
        errors[item.name] = (
            f"The {item.label} has spaces or signs that no key has. Copy it once more."
        )
    else:
        return value
    return None


def _own_fields(secret: Mapping[str, str], errors: Errors) -> dict[str, str]:
    # Names are the user's own words, and somebody may have put a key there: none is repeated.
    if not 1 <= len(secret) <= MAX_OWN_FIELDS:
        errors["credentials"] = f"Give 1 to {MAX_OWN_FIELDS} named fields."
    elif not all(FIELD_NAME.fullmatch(name) for name in secret):
        errors["credentials"] = (
            "A field name has 1 to 64 letters a to z, digits and underscores,"
            " and begins with a letter."
        )
    elif not all(value.strip() for value in secret.values()):
        errors["credentials"] = "Each field needs a value. Leave out the fields that have none."
    elif any(len(value) > 4096 for value in secret.values()):
        errors["credentials"] = "A value may have at most 4096 characters."
    elif not all(_writable(value) for value in secret.values()):
        errors["credentials"] = "A value has signs that cannot be stored. Copy it once more."
    return dict(secret)


def _writable(value: str) -> bool:
    return "\0" not in value and not any("\ud800" <= sign <= "\udfff" for sign in value)


def _label(label: str | None, kind: CredentialType, errors: Errors) -> str:
    label = (label or "").strip() or kind.title
    if len(label) > 200 or not label.isprintable():
        errors["label"] = "The label is one line of at most 200 characters."
    return label


def _project(project_id: str | None, kind: CredentialType, errors: Errors) -> None:
    if project_id is None:
        return
    project = next((item for item in PROJECTS if item.id == project_id), None)
    if project is None or not any(meets(kind.id, asked) for asked in project.credential_types):
        errors["projectId"] = "There is no such project that uses this type of credential."


def _expiry(expires_at: datetime | None, now: datetime, errors: Errors) -> datetime | None:
    """The time in UTC, as it will be read back."""
    if expires_at is None:
        return None
    if expires_at.tzinfo is None:
        errors["expiresAt"] = "The time needs a zone, for example 2030-01-31T00:00:00Z."
    elif expires_at <= now:
        errors["expiresAt"] = "The time has passed already."
    elif expires_at.year > MAX_YEAR:
        errors["expiresAt"] = f"The time may be in the year {MAX_YEAR} at most."
    else:
        return expires_at.astimezone(UTC)
    return None
