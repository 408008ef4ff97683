"""Rows of the audit log about signing in, which goes on while the vault is sealed."""

from __future__ import annotations

import logging

from sqlalchemy.orm import Session

from papita_core.audit.service import AuditLog, Event
from papita_core.errors import VaultSealed

log = logging.getLogger(__name__)


def note(audit: AuditLog, session: Session, *events: Event) -> None:
    """As `AuditLog.append`, but while there is no key for the log, the program's log has a warning
    instead: with a sealed vault somebody has to get in to see what is wrong.
    """
    try:
        audit.append(session, *events)
    except VaultSealed:
        for event in events:
            log.warning(
                "not in the audit log, since the vault is sealed: %s (%s) of %s",
                event.action,
                event.outcome,
                event.owner_id or "nobody known",
            )
