"""Who asks: every service call names an actor, and the actor knows what it may do.

An actor is made from a live sign-in session, from a personal access token or, for commands typed
on the host, from nobody in particular. Menus are a courtesy; these capabilities decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from papita_core.errors import Forbidden

if TYPE_CHECKING:
    from papita_core.users.sessions import SignInSession

MEMBER = frozenset(
    {"credentials:read", "credentials:write", "projects:launch", "tokens:manage", "profile"}
)
ADMINISTRATION = frozenset(
    {"users:manage", "audit:read", "credentials:share", "projects:manage", "vault:manage"}
)
CAPABILITIES: dict[str, frozenset[str]] = {
    "guest": frozenset({"projects:launch", "profile"}),
    "member": MEMBER,
    "administrator": MEMBER | ADMINISTRATION,
    "operator": MEMBER | ADMINISTRATION,
}
ROLES = ("administrator", "member", "guest")
TOKEN_SCOPES = ("credentials:read", "credentials:write", "projects:launch")


@dataclass(frozen=True, slots=True)
class Actor:
    """One caller. `scopes` narrows the role's capabilities; None leaves them as they are."""

    user_id: str
    username: str
    role: str
    session_id: str | None = None
    token_id: str | None = None
    scopes: frozenset[str] | None = None

    @classmethod
    def for_session(cls, session: SignInSession) -> Actor:
        return cls(session.user_id, session.username, session.role, session_id=session.id)

    @classmethod
    def operator(cls) -> Actor:
        """Whoever types commands on the host."""
        return cls("operator", "operator", "operator")

    @property
    def capabilities(self) -> frozenset[str]:
        granted = CAPABILITIES.get(self.role, frozenset())
        return granted if self.scopes is None else granted & self.scopes

    def may(self, capability: str) -> bool:
        return capability in self.capabilities

    def require(self, capability: str) -> None:
        """Raises `Forbidden` unless the actor may."""
        if not self.may(capability):
            raise Forbidden
