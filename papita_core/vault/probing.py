"""Asking a provider whether a key works, by the request that the key's type declares."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from papita_core import outbound
from papita_core.clock import Clock
from papita_core.credential_types import CredentialType, Probe
from papita_core.vault.records import TestResult

NOBODY_TO_ASK = "No provider is known for this type, so there is nobody to ask."


def probe(
    kind: CredentialType,
    base_url: str,
    secret: Mapping[str, str],
    *,
    allowlist: Collection[str],
    clock: Clock,
) -> TestResult:
    """One guarded GET. Blocks for seconds where the provider is slow; never raises."""
    if kind.probe is None:
        return TestResult("untested", clock(), NOBODY_TO_ASK)
    status, detail = _asked(kind, kind.probe, base_url, secret, allowlist)
    return TestResult(status, clock(), detail)


def _asked(
    kind: CredentialType,
    how: Probe,
    base_url: str,
    secret: Mapping[str, str],
    allowlist: Collection[str],
) -> tuple[str, str]:
    try:
        answer = outbound.get(
            f"{base_url}/{how.path}", headers_of(kind, how, secret), allowlist=allowlist
        )
    except outbound.AddressRefused as error:
        return "refused", str(error)
    except outbound.Unreachable as error:
        return "unreachable", str(error)
    key = secret.get(kind.fields[0].name)
    if answer.status == 200:
        return "ok", "The provider accepts the key." if key else "The provider answers."
    if answer.status in how.rejected:
        if not key:
            return "rejected", "The provider asks for a key. Enter one."
        return "rejected", "The provider rejects the key. Replace it with one that is valid."
    if answer.status == 429:
        return "rate_limited", "The provider asks to wait. The key may well be right."
    if answer.status == 404:
        return "error", "There is no such API at the base URL. Check the address."
    return "error", f"The provider answers with status {answer.status}. Try again later."


def headers_of(kind: CredentialType, how: Probe, secret: Mapping[str, str]) -> dict[str, str]:
    """The headers of a probe: the key where the type says, and what goes beside it."""
    headers = dict(how.headers)
    for place, item in enumerate(kind.fields):
        value = secret.get(item.name)
        if value and place == 0:
            headers[how.header] = how.scheme + value
        elif value and item.header:
            headers[item.header] = value
    return headers
