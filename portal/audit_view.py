"""The audit log in words: what happened, who did it, and what is wrong with a damaged log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from urllib.parse import urlencode

from papita_core.audit.search import FAILED
from papita_core.audit.service import Damage, Entry
from papita_core.projects.catalogue import PROJECTS
from portal.texts import N_, t, translated
from portal.words import full_date

EXPORT = "/api/audit/export"

# What an action is called on the page. One that is missing here shows its own name.
ACTIONS = {
    "account.email-changed": N_("changed the e-mail"),
    "account.password-changed": N_("changed the password"),
    "account.renamed": N_("changed the display name"),
    "audit.begun-anew": N_("began the log anew, after its rows were removed"),
    "audit.stream-opened": N_("opened a stream of the log"),
    "credential.blocked": N_("blocked a credential"),
    "credential.created": N_("added a credential"),
    "credential.deleted": N_("deleted a credential"),
    "credential.disabled": N_("switched a credential off"),
    "credential.enabled": N_("switched a credential on"),
    "credential.read": N_("read a key"),
    "credential.replaced": N_("changed a credential"),
    "credential.budget": N_("changed the budget of a credential"),
    "credential.shared": N_("shared a credential"),
    "credential.tested": N_("tested a key"),
    "credential.unblocked": N_("unblocked a credential"),
    "credential.unreadable": N_("found a key unreadable"),
    "credential.unshared": N_("stopped sharing a credential"),
    "factor.added": N_("added a second factor"),
    "factor.refused": N_("showed a second factor that was refused"),
    "factor.removed": N_("removed a second factor"),
    "factor.renamed": N_("renamed a passkey"),
    "factor.reset": N_("took all second factors away"),
    "grant.allowed": N_("allowed a project to use a key"),
    "grant.revoked": N_("withdrew a project's permission"),
    "identity.linked": N_("linked an account at a provider"),
    "identity.unlinked": N_("unlinked an account at a provider"),
    "key.audit-rotated": N_("rotated the key of the log"),
    "key.master-added": N_("added a master key"),
    "key.master-removed": N_("removed a master key"),
    "key.rotated": N_("finished rotating the root key"),
    "key.rotation-started": N_("began to rotate the root key"),
    "key.signing-rotated": N_("rotated the key that signs tokens"),
    "lease.issued": N_("was given access for minutes"),
    "limit.cleared": N_("lifted a limit on attempts"),
    "limit.reached": N_("ran into a limit on attempts"),
    "passkey.cloned": N_("used a passkey of which there is a copy"),
    "project.disabled": N_("switched a project off"),
    "project.enabled": N_("switched a project on"),
    "recovery.renewed": N_("made new recovery codes"),
    "recovery.used": N_("used a recovery code"),
    "session.ended": N_("ended a session"),
    "session.started": N_("signed in"),
    "sign-in.failed": N_("tried to sign in"),
    "token.created": N_("made an access token"),
    "token.revoked": N_("revoked an access token"),
    "invitation.created": N_("invited somebody"),
    "invitation.revoked": N_("took an invitation back"),
    "invitation.used": N_("used an invitation"),
    "policy.changed": N_("changed a rule for everybody"),
    "user.approved": N_("approved a sign-up"),
    "user.created": N_("added a user"),
    "user.deleted": N_("deleted an account"),
    "user.erased": N_("deleted all data of a deleted user"),
    "user.disabled": N_("disabled a user"),
    "user.enabled": N_("enabled a user"),
    "user.password-reset": N_("reset a password"),
    "user.refused": N_("refused a sign-up"),
    "user.reset-asked": N_("asked for a new password"),
    "user.reset-dismissed": N_("dismissed a request for a new password"),
    "user.reset-link-made": N_("made a link for a new password"),
    "user.role-changed": N_("changed a role"),
    "user.signed-out": N_("ended all sessions of a user"),
    "vault.backed-up": N_("made a backup"),
    "vault.restored": N_("restored a backup"),
}
ANY, DONE, REFUSED = N_("Any"), N_("Done"), N_("Refused or failed")
OUTCOMES = {ANY: None, DONE: "ok", REFUSED: FAILED}

DAMAGES = {
    "edited": N_("Row {seq} of stream {stream} was changed after it was written."),
    "removed": N_("Row {seq} of stream {stream} was removed, and perhaps others after it."),
    "inserted": N_(
        "Row {seq} of stream {stream} was not written by Papita: somebody put it there."
    ),
    "reordered": N_("Row {seq} of stream {stream} changed places with a later one."),
    "cut off": N_("The end of stream {stream} was cut off: rows from {seq} on are missing."),
    "head gone": N_(
        "Rows of stream {stream} were removed as a whole, or the record of its last row."
    ),
}
WHAT_TO_DO = N_(
    "Somebody who can write to the database did this, or the disk is faulty. Keep a copy of the"
    " database as it is now, compare it with your last backup or export, and find out who had"
    " access since. Only rows before the damage are proven to be whole."
)


def heads() -> tuple[str, ...]:
    return "UTC", t("Who"), t("What"), t("Row")


def action_words(action: str) -> str:
    return translated(ACTIONS.get(action, action))


def damage_sentence(damage: Damage) -> str:
    return translated(DAMAGES[damage.kind]).format(stream=damage.stream, seq=damage.seq)


def days(first: date | None, last: date | None) -> tuple[datetime | None, datetime | None]:
    """The first moment of the first day, and the first moment after the last day, in UTC."""
    since, until = (
        None if day is None else datetime.combine(day, time(), UTC) for day in (first, last)
    )
    return since, None if until is None else until + timedelta(days=1)


def export_url(file_type: str, wanted: Mapping[str, str | None]) -> str:
    """The address that streams what a filter finds. `wanted` has the API's own parameters."""
    given = {name: value for name, value in wanted.items() if value is not None}
    return f"{EXPORT}?{urlencode({'format': file_type, **given})}"


def by_day(entries: Iterable[Entry]) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """The entries of each UTC day under its name, as rows for a table with `heads`."""
    for day, some in groupby(entries, key=lambda entry: entry.at.date()):
        yield full_date(day), list(entry_rows(some))


def entry_rows(entries: Iterable[Entry]) -> Iterator[tuple[str, ...]]:
    """Time, who, what and place of each entry."""
    titles = {project.id: project.title for project in PROJECTS}
    for entry in entries:
        event = entry.event
        who = entry.actor_name or titles.get(event.actor_id or "") or event.actor_id or "Papita"
        if event.owner_id is not None and event.owner_id != event.actor_id:
            who = t("{name} for {owner}", name=who, owner=entry.owner_name or event.owner_id)
        what = action_words(event.action)
        if event.project_id is not None and event.project_id != event.actor_id:
            what += f": {titles.get(event.project_id, event.project_id)}"
        if event.outcome != "ok":
            what = t("{action} (failed: {reason})", action=what, reason=event.outcome)
        place = str(entry.seq) if entry.stream == "main" else f"{entry.stream} {entry.seq}"
        yield f"{entry.at:%H:%M:%S}", who, what, place
