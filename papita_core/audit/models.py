"""Tables of the audit log."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Index, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from papita_core.db import Base, UtcDateTime


class AuditRow(Base):
    """One event. `body` is what the mac covers; the other columns repeat parts of it for search."""

    __tablename__ = "audit_log"
    __table_args__ = (
        Index("ix_audit_log_owner_at", "owner_id", "at"),
        Index("ix_audit_log_subject_at", "subject_id", "at"),
    )

    stream: Mapped[str] = mapped_column(String(32), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    action: Mapped[str] = mapped_column(String(64), index=True)
    actor_id: Mapped[str | None] = mapped_column(String(64))
    owner_id: Mapped[str | None] = mapped_column(String(36))
    subject_id: Mapped[str | None] = mapped_column(String(64))
    project_id: Mapped[str | None] = mapped_column(String(64))
    outcome: Mapped[str] = mapped_column(String(64))
    body: Mapped[str] = mapped_column(Text)
    key_kid: Mapped[str] = mapped_column(String(32))
    mac: Mapped[bytes] = mapped_column(LargeBinary)


class AuditHead(Base):
    """The newest row of a stream, so that a cut-off end is noticed; `mac` is `chain.head_mac`."""

    __tablename__ = "audit_heads"

    stream: Mapped[str] = mapped_column(String(32), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger)
    mac: Mapped[bytes] = mapped_column(LargeBinary)
