"""Why a sign-in at a provider came to nothing."""

from __future__ import annotations

from typing import Literal

from papita_core.errors import ProviderSignInRefused

Reason = Literal[
    "stale",
    "declined",
    "unreachable",
    "misconfigured",
    "not-verified",
    "no-account",
    "no-role",
    "email-taken",
    "disabled",
    "approval",
    "linked-elsewhere",
    "session-changed",
    "other-person",
    "too-old",
]


class Refused(ProviderSignInRefused):
    """`reason` is what the browser takes back to the door; nothing of what the provider sent.

    `next_page`: where the attempt was to lead, if it was one of ours.
    """

    def __init__(self, reason: Reason, *, next_page: str = "/") -> None:
        self.reason = reason
        self.next_page = next_page
        super().__init__()


class LogoutTokenRefused(ProviderSignInRefused):
    """A logout token that is none of ours."""
