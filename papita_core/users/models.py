"""Tables of users and of all by which they are known: sessions, factors, identities, links."""

from __future__ import annotations

import unicodedata
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    event,
    false,
    text,
    true,
)
from sqlalchemy.orm import Mapped, mapped_column

from papita_core.db import Base, UtcDateTime
from papita_core.vault.models import Sealed

SEARCH_KEY = 600  # characters
FEW = {
    "administrators": "role = 'administrator'",
    "disabled": "disabled_at IS NOT NULL",
    "waiting": "awaits_approval_since IS NOT NULL",
    "reset_asked": "reset_asked_at IS NOT NULL",
}


class UserRow(Base):
    """An account.

    `email_key` is the e-mail as it is compared; an e-mail is verified if an administrator or an
    identity provider vouched for it, and never if its user typed it. An empty `password_hash`: this
    user signs in by a passkey or an identity provider. `awaits_approval_since`: signed up, and no
    administrator has said yes; such a user is disabled as well, so that nothing lets them in.
    `reset_asked_at`: asked for a new password at the door. `search_key` is what a search looks
    through, kept by the mapper: change a user through its row.
    """

    __tablename__ = "users"
    __table_args__ = (
        Index("uq_users_email_key", "email_key", unique=True),
        # The few among many, so that nobody walks over ten thousand to count or to list them.
        *(
            Index(
                f"ix_users_{name}",
                "username",
                sqlite_where=text(condition),
                postgresql_where=text(condition),
            )
            for name, condition in FEW.items()
        ),
        # All that a search reads, in the order of the list.
        Index("ix_users_search", "username", "search_key"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    username: Mapped[str] = mapped_column(String(64), unique=True)
    display_name: Mapped[str] = mapped_column(String(200))
    email: Mapped[str | None] = mapped_column(String(320))
    email_key: Mapped[str | None] = mapped_column(String(320))
    email_verified_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    password_hash: Mapped[str] = mapped_column(String(300))
    role: Mapped[str] = mapped_column(String(32))
    disabled_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    awaits_approval_since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    reset_asked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    search_key: Mapped[str] = mapped_column(Text, server_default="", default="")
    last_sign_in_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


def searchable(text: str) -> str:
    """The text as it is searched: without capitals, accents and repeated spaces."""
    letters = unicodedata.normalize("NFKD", text)
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return " ".join(plain.casefold().split())


@event.listens_for(UserRow, "before_insert")
@event.listens_for(UserRow, "before_update")
def _keep_search_key(_mapper: Any, _connection: Any, row: UserRow) -> None:
    # PostgreSQL's indexes take no more than some 2,700 bytes.
    parts = (row.username, row.display_name, row.email or "")
    row.search_key = searchable("\n".join(parts))[:SEARCH_KEY]


class SessionRow(Base):
    """A sign-in session; handle and ticket are kept as hashes alone.

    `method` says how it began (`papita_core.users.sessions.METHODS`), `second_factor` which one was
    shown, if any. `proved_at`: when the user last proved who they are. `remember`: the cookie
    outlives the browser. `network` is what limits count an address as
    (`papita_core.users.limits.network_of`). The `oidc_` columns are what a provider calls it, for
    its logout.
    """

    __tablename__ = "sign_in_sessions"
    __table_args__ = (
        Index("ix_sign_in_sessions_oidc", "oidc_issuer", "oidc_subject"),
        Index("ix_sign_in_sessions_network", "user_id", "network"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    handle_hash: Mapped[str | None] = mapped_column(String(64), unique=True)
    ticket_hash: Mapped[str | None] = mapped_column(String(64), unique=True)
    ticket_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    address: Mapped[str] = mapped_column(String(64))
    network: Mapped[str] = mapped_column(String(64), server_default="", default="")
    user_agent: Mapped[str] = mapped_column(String(300))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_seen_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    method: Mapped[str] = mapped_column(String(16), server_default="password")
    second_factor: Mapped[str | None] = mapped_column(String(16))
    proved_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    remember: Mapped[bool] = mapped_column(Boolean, server_default=true())
    oidc_issuer: Mapped[str | None] = mapped_column(String(300))
    oidc_subject: Mapped[str | None] = mapped_column(String(300))
    oidc_sid: Mapped[str | None] = mapped_column(String(300))


class AccessTokenRow(Base):
    """A personal access token, kept as a hash."""

    __tablename__ = "access_tokens"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class PreferenceRow(Base):
    """What a user has set for the pages, as JSON."""

    __tablename__ = "user_preferences"

    user_id: Mapped[str] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class SetupCodeRow(Base):
    """The one-time code with which the first administrator is made."""

    __tablename__ = "setup_codes"

    code_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)


class TotpDevice(Sealed, Base):
    """An authenticator app: its secret, sealed. `last_step` is the last time step that was used.

    A user has at most one that is confirmed and one that is not, which may take its place.
    """

    __tablename__ = "totp_devices"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    confirmed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_step: Mapped[int] = mapped_column(BigInteger, server_default="0", default=0)


class RecoveryCode(Base):
    """A code that serves once in place of the second factor, kept as a hash."""

    __tablename__ = "recovery_codes"

    user_id: Mapped[str] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    code_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Passkey(Base):
    """A WebAuthn credential; only its public half is here. `credential_id` is base64url."""

    __tablename__ = "passkeys"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    credential_id: Mapped[str] = mapped_column(String(1400), unique=True)
    public_key: Mapped[bytes] = mapped_column(LargeBinary)
    sign_count: Mapped[int] = mapped_column(BigInteger)
    name: Mapped[str] = mapped_column(String(200))
    transports: Mapped[str] = mapped_column(String(200), server_default="", default="")
    aaguid: Mapped[str] = mapped_column(String(36), server_default="", default="")
    backed_up: Mapped[bool] = mapped_column(Boolean, server_default=false())
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    cloned_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class OidcIdentity(Base):
    """An account at an OpenID Connect provider that signs a user in."""

    __tablename__ = "oidc_identities"
    __table_args__ = (UniqueConstraint("issuer", "subject"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    provider: Mapped[str] = mapped_column(String(64))
    issuer: Mapped[str] = mapped_column(String(300))
    subject: Mapped[str] = mapped_column(String(300))
    email: Mapped[str | None] = mapped_column(String(320))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class OidcAttempt(Base):
    """A sign-in that is under way at a provider; `state_hash` comes back once."""

    __tablename__ = "oidc_attempts"

    state_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    provider: Mapped[str] = mapped_column(String(64))
    purpose: Mapped[str] = mapped_column(String(16))
    user_id: Mapped[str | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    session_id: Mapped[str | None] = mapped_column(String(36))
    next_page: Mapped[str] = mapped_column(String(300))
    remember: Mapped[bool] = mapped_column(Boolean, server_default=false())
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class OneTimeLink(Base):
    """A link that serves once: `kind` is invitation or password-reset; kept as a hash."""

    __tablename__ = "one_time_links"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    user_id: Mapped[str | None] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), index=True
    )
    role: Mapped[str | None] = mapped_column(String(32))
    email: Mapped[str | None] = mapped_column(String(320))
    note: Mapped[str] = mapped_column(String(200), server_default="", default="")
    created_by: Mapped[str] = mapped_column(String(36))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class AttemptCounter(Base):
    """How often something was tried since a window of time began, for all portals together.

    `key_hash` is what is counted, as a hash, since people type passwords into the wrong field;
    `user_id` and `address` are there to be shown, where they are known. `most` is how often it may
    be tried until `expires_at`; after that the next try begins a window anew.
    """

    __tablename__ = "attempt_counters"

    kind: Mapped[str] = mapped_column(String(32), primary_key=True)
    key_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    window_start: Mapped[datetime] = mapped_column(UtcDateTime)
    count: Mapped[int] = mapped_column(Integer)
    most: Mapped[int] = mapped_column(Integer)
    user_id: Mapped[str | None] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), index=True
    )
    address: Mapped[str] = mapped_column(String(64), server_default="", default="")
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class PolicyRow(Base):
    """What administrators have decided for everybody, as JSON."""

    __tablename__ = "policies"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(Text)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Erasure(Base):
    """A deleted user whose data a project still has to delete; who that was is kept until then."""

    __tablename__ = "erasures"

    user_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    project_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    username: Mapped[str] = mapped_column(String(64))
    asked_at: Mapped[datetime] = mapped_column(UtcDateTime)
