"""What projects spent with borrowed credentials. Amounts are billionths of a US dollar."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import BigInteger, Date, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from papita_core.db import Base, UtcDateTime


class UsageDay(Base):
    """What one user's project spent with one credential and model on one UTC day.

    `cost_nano` is the sum of what is known; `unpriced_requests` counts the others. The credential
    may be gone by now: what was spent stays on the record.
    """

    __tablename__ = "usage_days"
    __table_args__ = (Index("ix_usage_days_user_day", "user_id", "day"),)

    credential_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    user_id: Mapped[str] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    project_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    model: Mapped[str] = mapped_column(String(200), primary_key=True)
    requests: Mapped[int] = mapped_column(BigInteger)
    unpriced_requests: Mapped[int] = mapped_column(BigInteger)
    prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    completion_tokens: Mapped[int] = mapped_column(BigInteger)
    cost_nano: Mapped[int] = mapped_column(BigInteger)


class UsageReport(Base):
    """The id of a record that was counted, so that its repetition is not."""

    __tablename__ = "usage_reports"

    project_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    received_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
