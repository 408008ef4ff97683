"""Tables of the key ring and of the credentials.

Whatever holds sealed bytes is a `Sealed`: rotation and the check at start take their list of tables
from that class, so no table can be forgotten.
"""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    Date,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    false,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from papita_core.db import Base, UtcDateTime


class Sealed:
    """Columns of a sealed value: the blob under a data key, the data key under a root key."""

    blob: Mapped[bytes] = mapped_column(LargeBinary)
    dek_wrapped: Mapped[bytes] = mapped_column(LargeBinary)
    kek_kid: Mapped[str] = mapped_column(String(32), index=True)


class RootKey(Base):
    """A root key; its bytes lie in the slots, wrapped by a master key each."""

    __tablename__ = "root_keys"
    __table_args__ = (
        Index(
            "uq_root_keys_active",
            "state",
            unique=True,
            sqlite_where=text("state = 'active'"),
            postgresql_where=text("state = 'active'"),
        ),
    )

    kid: Mapped[str] = mapped_column(String(32), primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    canary: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    retired_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class KeySlot(Base):
    """One root key, wrapped by one master key."""

    __tablename__ = "key_slots"

    root_kid: Mapped[str] = mapped_column(
        ForeignKey("root_keys.kid", ondelete="CASCADE"), primary_key=True
    )
    master_kid: Mapped[str] = mapped_column(String(32), primary_key=True)
    wrapped: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class PurposeKey(Sealed, Base):
    """A key with one use: signing user tokens, chaining the audit log, fingerprinting requests."""

    __tablename__ = "purpose_keys"

    kid: Mapped[str] = mapped_column(String(32), primary_key=True)
    purpose: Mapped[str] = mapped_column(String(32), index=True)
    state: Mapped[str] = mapped_column(String(16))
    public: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    retired_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Credential(Base):
    """What is known of a credential without opening it.

    `disabled_at` is its owner's switch, `blocked_at` an administrator's. `fingerprint` is keyed: it
    tells its owner that a secret is here already, and nobody else anything.
    """

    __tablename__ = "credentials"
    __table_args__ = (
        Index("ix_credentials_resolve", "owner_id", "credential_type", "project_id"),
        # Every loan asks for those that everybody may use: a few of very many.
        Index(
            "ix_credentials_for_all",
            "id",
            sqlite_where=text("shared_with_all = 1"),
            postgresql_where=text("shared_with_all"),
        ),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    owner_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    credential_type: Mapped[str] = mapped_column(String(64))
    project_id: Mapped[str | None] = mapped_column(String(64))
    label: Mapped[str] = mapped_column(String(200))
    hint: Mapped[str] = mapped_column(String(32))
    base_url: Mapped[str] = mapped_column(String(2048))
    origin: Mapped[str] = mapped_column(String(300))
    version: Mapped[int] = mapped_column(Integer)
    revision: Mapped[int] = mapped_column(Integer)
    status: Mapped[str] = mapped_column(String(32))
    checked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_used_by: Mapped[str | None] = mapped_column(String(64))
    disabled_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    blocked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    shared_with_all: Mapped[bool] = mapped_column(Boolean, server_default=false())
    fingerprint: Mapped[str | None] = mapped_column(String(64))
    # The budget, and what is spent of it in the period since `spent_since`: kept here, so that a
    # loan, which reads this row in any case, can be refused. Billionths of a US dollar.
    budget_nano: Mapped[int | None] = mapped_column(BigInteger)
    budget_period: Mapped[str | None] = mapped_column(String(8))
    budget_project_id: Mapped[str | None] = mapped_column(String(64))
    spent_nano: Mapped[int] = mapped_column(BigInteger, server_default="0", default=0)
    spent_unpriced: Mapped[int] = mapped_column(BigInteger, server_default="0", default=0)
    spent_since: Mapped[date | None] = mapped_column(Date)


class CredentialShare(Base):
    """One user who may use a credential of somebody else through projects, and never see it."""

    __tablename__ = "credential_shares"

    credential_id: Mapped[str] = mapped_column(
        ForeignKey("credentials.id", ondelete="CASCADE"), primary_key=True
    )
    user_id: Mapped[str] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class CredentialSecret(Sealed, Base):
    """One version of a credential's secret."""

    __tablename__ = "credential_secrets"

    credential_id: Mapped[str] = mapped_column(
        ForeignKey("credentials.id", ondelete="CASCADE"), primary_key=True
    )
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class IdempotentRequest(Base):
    """A request that was answered, so that its repetition gets the same answer."""

    __tablename__ = "idempotent_requests"

    user_id: Mapped[str] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    key_digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    subject_id: Mapped[str] = mapped_column(String(36))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
