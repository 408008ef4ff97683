"""What a check says, and the checks that both `doctor` and `restore --check` make."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy.orm import Session

from papita_core.audit.service import AuditLog
from papita_core.errors import SecretUnreadable, VaultSealed
from papita_core.vault.keyring import KeyRing
from papita_core.vault.sealed_rows import parts_of, sealed_tables

OK, WARNING, PROBLEM = "ok", "warning", "problem"
IN_PARTS = {"yield_per": 500}
MOST_NAMED = 20  # of what is wrong in the same way; the rest is counted


@dataclass(frozen=True, slots=True)
class Finding:
    """`level` is ok, warning or problem; `sentence` says what is so and what to do."""

    level: str
    check: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.level}\t{self.check}\t{self.sentence}"


def sealed_rows(session: Session, ring: KeyRing) -> Iterator[Finding]:
    """Opens every sealed value there is, with a ring that is open."""
    count = 0
    broken: list[str] = []
    shut: list[str] = []
    for table in sealed_tables():
        rows = session.execute(table.query.order_by(*table.key), execution_options=IN_PARTS)
        for row in rows:
            count += 1
            try:
                ring.open(table.kind, parts_of(row), table.context(row), session)
            except VaultSealed:
                shut.append(table.name_of(row))
            except SecretUnreadable:
                broken.append(table.name_of(row))
    if broken:
        yield Finding(
            PROBLEM,
            "secrets",
            f"{counted(len(broken), 'value', 'values')} cannot be opened: {named(broken)}."
            " They were changed outside Papita. Restore a backup, or let the owners of these"
            " credentials enter their keys again.",
        )
    if shut:
        yield Finding(
            PROBLEM,
            "secrets",
            f"{counted(len(shut), 'value needs', 'values need')} another master key:"
            f" {named(shut)}. Run `python -m papita_core keys status`, which names it.",
        )
    if not broken and not shut:
        yield Finding(OK, "secrets", f"All {count} sealed values open.")


def audit_chain(audit: AuditLog) -> Iterator[Finding]:
    """Whether the audit log is as it was written; needs an open ring."""
    damages = audit.verify()
    for damage in damages:
        yield Finding(
            PROBLEM,
            "audit log",
            f"Stream {damage.stream} is damaged at row {damage.seq}: {damage.kind}. Somebody"
            " changed it outside Papita: find out who, and compare it with a backup.",
        )
    if not damages:
        yield Finding(OK, "audit log", f"All {audit.count()} rows are as they were written.")


def named(ids: list[str]) -> str:
    """The first of some ids, and how many more there are."""
    more = len(ids) - MOST_NAMED
    return ", ".join(ids[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
