"""The table of what an administrator has said of a project."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from papita_core.db import Base, UtcDateTime


class ProjectState(Base):
    """A project without a row is on; `disabled_at` is the administrator's kill switch."""

    __tablename__ = "project_states"

    project_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    disabled_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
