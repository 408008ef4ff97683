"""Who asks: every service call names an actor, and the actor knows what it may do.

An actor is made from a live sign-in session, from a personal access token or, for commands typed
on the host, from nobody in particular. Menus are a courtesy; these capabilities decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from papita_core.errors import Forbidden, ReauthenticationRequired

if TYPE_CHECKING:
    from papita_core.users.sessions import SignInSession

# Setting up a second factor is all that is left to whoever has to have one and has none.
RESTRICTED = frozenset({"factors"})
GUEST = RESTRICTED | {"projects:launch", "profile"}
MEMBER = GUEST | {"credentials:read", "credentials:write", "tokens:manage"}
ADMINISTRATION = frozenset(
    {"users:manage", "audit:read", "credentials:share", "projects:manage", "vault:manage"}
)
CAPABILITIES: dict[str, frozenset[str]] = {
    "guest": GUEST,
    "member": MEMBER,
    "administrator": MEMBER | ADMINISTRATION,
    "operator": MEMBER | ADMINISTRATION,
}
ROLES = ("administrator", "member", "guest")
TOKEN_SCOPES = ("credentials:read", "credentials:write", "projects:launch")
PROOF_LASTS = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Actor:
    """One caller. `scopes` narrows the role's capabilities; None leaves them as they are.

    `proved_at`: when the user last showed password, passkey or the like. `restricted`: a second
    factor is required of this user, who has none yet.
    """

    user_id: str
    username: str
    role: str
    session_id: str | None = None
    token_id: str | None = None
    scopes: frozenset[str] | None = None
    proved_at: datetime | None = None
    restricted: bool = False

    @classmethod
    def for_session(cls, session: SignInSession) -> Actor:
        return cls(
            session.user_id,
            session.username,
            session.role,
            session_id=session.id,
            proved_at=session.proved_at,
            restricted=session.restricted,
        )

    @classmethod
    def operator(cls) -> Actor:
        """Whoever types commands on the host."""
        return cls("operator", "operator", "operator")

    @property
    def capabilities(self) -> frozenset[str]:
        granted = RESTRICTED if self.restricted else CAPABILITIES.get(self.role, frozenset())
        return granted if self.scopes is None else granted & self.scopes

    def may(self, capability: str) -> bool:
        return capability in self.capabilities

    def require(self, capability: str) -> None:
        """Raises `Forbidden` unless the actor may."""
        if not self.may(capability):
            raise Forbidden

    def proved(self, now: datetime) -> bool:
        """Whether the user has shown recently enough that it is they who sit there."""
        if self.role == "operator":
            return True
        return self.proved_at is not None and now - self.proved_at < PROOF_LASTS

    def require_proof(self, now: datetime) -> None:
        """Raises `ReauthenticationRequired` unless `proved`. For what a stranger at an open tab
        must not be able to do.
        """
        if not self.proved(now):
            raise ReauthenticationRequired
