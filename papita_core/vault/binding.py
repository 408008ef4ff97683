"""What a secret is bound to, so that it opens in its own row and nowhere else."""

from __future__ import annotations

from functools import lru_cache

from papita_core.errors import SecretUnreadable
from papita_core.settings import origin_of
from papita_core.vault.models import Credential

KIND = "credential"

# Few addresses, and one is looked at with every loan.
_origin_of = lru_cache(maxsize=256)(origin_of)


def secret_context(row: Credential) -> tuple[bytes, ...]:
    """The context of a row's secret: its id, owner, type, origin and version."""
    return bound_to(
        row.id, row.owner_id, row.credential_type, row.base_url, row.origin, row.version
    )


def bound_to(
    credential_id: str,
    owner_id: str,
    credential_type: str,
    base_url: str,
    origin: str,
    version: int,
) -> tuple[bytes, ...]:
    """Raises `SecretUnreadable` where the base URL leads away from the origin: it is the address
    to which the key will be sent, so whoever can write the row must not turn it elsewhere.

    A type without an address has neither, and is bound to that.
    """
    try:
        led_to = _origin_of(base_url) if base_url else ""
    except ValueError:
        raise SecretUnreadable from None
    if led_to != origin:
        raise SecretUnreadable
    return (
        KIND.encode(),
        credential_id.encode(),
        owner_id.encode(),
        credential_type.encode(),
        origin.encode(),
        version.to_bytes(8, "big"),
    )
