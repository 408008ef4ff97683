"""Passkeys (WebAuthn Level 3): the browser proves that it holds a key that only this site can ask.

A passkey that verified its user, by a PIN or a fingerprint, counts as both factors: it signs in by
itself and stands for the password where that is asked for again. Without that it is a second factor
behind the password. Each question (`Question`) has a challenge of its own, stays in the process
that asked it, is answered once and times out.

A passkey's counter has to grow, where it has one. One that does not was copied, or so it seems: the
attempt is refused, and the passkey is marked for its owner to see. The mark does not lock the owner
out, since of two sign-ins at the same moment the later one may come first.
"""

from __future__ import annotations

import ipaddress
import json
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from webauthn import (
    base64url_to_bytes,
    generate_authentication_options,
    generate_registration_options,
    options_to_json,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.authentication.verify_authentication_response import VerifiedAuthentication
from webauthn.helpers import bytes_to_base64url, parse_authentication_credential_json
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.structs import (
    AuthenticationCredential,
    AuthenticatorSelectionCriteria,
    AuthenticatorTransport,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from papita_core.actors import Actor
from papita_core.audit.service import AuditLog, Event
from papita_core.clock import Clock, utc_now
from papita_core.db import Database, new_id
from papita_core.errors import AlreadyExists, Conflict, FactorRefused, InvalidInput, NotFound
from papita_core.settings import Settings
from papita_core.users.events import note
from papita_core.users.factors import PASSKEY, after_removal, locked, may_change, refuse
from papita_core.users.limits import Limit, LimitService, Try, network_of
from papita_core.users.models import Passkey, UserRow
from papita_core.users.service import User, to_user

RP_NAME = "Papita"
MOST = 20
# A browser waits for half of it, so that a button may have stood on the page for the other half.
ANSWER_WITHIN = timedelta(minutes=10)
BROWSER_WAITS = ANSWER_WITHIN / 2
ANSWER_LIMIT = 16_384  # characters; an attestation takes a few thousand
ID_LIMIT = 1023  # bytes, says the standard
ALGORITHMS = [
    COSEAlgorithmIdentifier.ECDSA_SHA_256,
    COSEAlgorithmIdentifier.RSASSA_PKCS1_v1_5_SHA_256,
]
# Signatures cannot be guessed; this bounds what one address can make the portal compute.
TRIES = Limit("passkey.address", 60, timedelta(minutes=1))

REFUSED = "This passkey was not accepted. Try again, or sign in in another way."
TOO_LATE = "This took too long. Press the button again."

Purpose = Literal["register", "sign-in", "second-step", "proof"]


@dataclass(slots=True)
class Question:
    """What one browser is asked: `options` are for `navigator.credentials`. `user_id` is who has to
    answer; at the door anybody may.
    """

    id: str
    purpose: Purpose
    user_id: str | None
    challenge: bytes = field(repr=False)
    options: dict[str, Any] = field(repr=False)
    expires_at: datetime
    _once: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def fresh(self, now: datetime) -> bool:
        """Whether there is time enough left to put it on a page."""
        return now < self.expires_at - ANSWER_WITHIN * 0.9

    def take(self, purpose: Purpose, now: datetime) -> None:
        """Raises `FactorRefused` but for the first answer in time."""
        if not self._once.acquire(blocking=False) or self.purpose != purpose:
            raise FactorRefused(REFUSED)
        if now >= self.expires_at:
            raise FactorRefused(TOO_LATE)


@dataclass(frozen=True, slots=True)
class PasskeyInfo:
    """A passkey as its owner sees it. `synced`: the browser's maker keeps copies, so that it is on
    the owner's other devices, too. `cloned_at`: when a copy of it was noticed that should not be.
    """

    id: str
    name: str
    created_at: datetime
    last_used_at: datetime | None
    synced: bool
    cloned_at: datetime | None


class PasskeyService:
    def __init__(
        self,
        database: Database,
        audit: AuditLog,
        limits: LimitService,
        settings: Settings,
        clock: Clock = utc_now,
    ) -> None:
        self._database = database
        self._audit = audit
        self._limits = limits
        self._origin = settings.origin
        self._rp_id = urlsplit(settings.origin).hostname or ""
        self._clock = clock
        self.unavailable = _why_not(settings.origin)
        """Why browsers offer no passkeys at the portal's address, as a sentence, or None."""

    def list(self, actor: Actor) -> list[PasskeyInfo]:
        """The actor's own, the oldest first."""
        actor.require("factors")
        with self._database.read() as session:
            rows = session.scalars(
                select(Passkey)
                .where(Passkey.user_id == actor.user_id)
                .order_by(Passkey.created_at, Passkey.id)
            ).all()
        return [_info(row) for row in rows]

    # --- registering ---

    def ask_to_register(self, actor: Actor) -> Question:
        """What `navigator.credentials.create` is asked. Raises `Conflict` where there are `MOST`
        already or the portal's address allows for none, `Forbidden` and `ReauthenticationRequired`.
        """
        if self.unavailable:
            raise Conflict(self.unavailable)
        now = self._clock()
        with self._database.write() as session:
            user = may_change(session, actor, now)
            rows = self._check_room(session, user)
        challenge = secrets.token_bytes(32)
        options = generate_registration_options(
            rp_id=self._rp_id,
            rp_name=RP_NAME,
            user_id=user.id.encode(),
            user_name=user.username,
            user_display_name=user.display_name or user.username,
            challenge=challenge,
            timeout=_milliseconds(BROWSER_WAITS),
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.REQUIRED,
                user_verification=UserVerificationRequirement.PREFERRED,
            ),
            exclude_credentials=_descriptors(rows),
            supported_pub_key_algs=ALGORITHMS,
        )
        return self._question("register", user.id, challenge, options)

    def register(self, actor: Actor, question: Question, answer: str, name: str) -> PasskeyInfo:
        """Keeps the public half of a new passkey. Raises `FactorRefused` where the answer does not
        fit the question or this site, `InvalidInput` for the name, `AlreadyExists`, `Conflict`, and
        as `ask_to_register`; `VaultSealed` while nothing can be put on the record.
        """
        name = _checked_name(name)
        question.take("register", self._clock())
        if question.user_id != actor.user_id or len(answer) > ANSWER_LIMIT:
            raise FactorRefused(REFUSED)
        try:
            found = verify_registration_response(
                credential=answer,
                expected_challenge=question.challenge,
                expected_rp_id=self._rp_id,
                expected_origin=self._origin,
                supported_pub_key_algs=ALGORITHMS,
            )
            transports = _transports(json.loads(answer))
            if len(found.credential_id) > ID_LIMIT:
                raise ValueError("a credential id of this length is none")
        except Exception:  # noqa: BLE001 - the parsers raise whatever crafted input makes them
            raise FactorRefused(REFUSED) from None
        now = self._clock()
        with self._database.write() as session:
            user = may_change(session, actor, now)
            self._check_room(session, user)
            row = Passkey(
                id=new_id(),
                user_id=user.id,
                credential_id=bytes_to_base64url(found.credential_id),
                public_key=found.credential_public_key,
                sign_count=found.sign_count,
                name=name,
                transports=transports,
                aaguid=found.aaguid,
                backed_up=found.credential_backed_up,
                created_at=now,
                last_used_at=None,
                cloned_at=None,
            )
            try:
                with session.begin_nested():
                    session.add(row)
                    session.flush()
            except IntegrityError:
                raise AlreadyExists("This passkey is known here already.") from None
            self._audit.append(
                session,
                Event(
                    "factor.added",
                    user.id,
                    user.id,
                    row.id,
                    details={"factor": PASSKEY, "verified": found.user_verified},
                ),
            )
            return _info(row)

    def rename(self, actor: Actor, passkey_id: str, name: str) -> None:
        """Raises `InvalidInput`, `NotFound`, `Forbidden`, `ReauthenticationRequired`,
        `VaultSealed`.
        """
        name = _checked_name(name)
        with self._database.write() as session:
            user = may_change(session, actor, self._clock())
            row = _owned(session, user.id, passkey_id)
            row.name = name
            self._audit.append(session, Event("factor.renamed", user.id, user.id, row.id))

    def remove(self, actor: Actor, passkey_id: str) -> None:
        """Raises `LastFactor`, and as `rename`."""
        with self._database.write() as session:
            user = may_change(session, actor, self._clock())
            row = _owned(session, user.id, passkey_id)
            session.execute(delete(Passkey).where(Passkey.id == row.id))
            after_removal(session, user)
            self._audit.append(
                session,
                Event("factor.removed", user.id, user.id, row.id, details={"factor": PASSKEY}),
            )

    # --- using ---

    def ask_anybody(self) -> Question:
        """What `navigator.credentials.get` is asked at the door, where nobody has said a name."""
        return self._ask("sign-in", None, (), UserVerificationRequirement.REQUIRED)

    def ask(self, user_id: str, purpose: Literal["second-step", "proof"]) -> Question:
        """The same of one user, for one of that user's passkeys. As proof it stands for the
        password, so there the passkey has to verify its user.
        """
        with self._database.read() as session:
            rows = session.scalars(select(Passkey).where(Passkey.user_id == user_id)).all()
        verification = (
            UserVerificationRequirement.REQUIRED
            if purpose == "proof"
            else UserVerificationRequirement.PREFERRED
        )
        return self._ask(purpose, user_id, rows, verification)

    def verify(
        self, question: Question, purpose: Purpose, answer: str, *, address: str = ""
    ) -> User:
        """The user whose passkey answered. Raises `FactorRefused`, in the same words whatever does
        not fit: another origin, site or challenge, a challenge that was answered, a passkey of
        somebody else or of nobody, no verification of the user where one is needed, a counter that
        does not grow, a user without access. `TooManyAttempts` where one address tries very often.
        """
        attempt = Try(TRIES, network_of(address), address=address)
        self._limits.hit(attempt)
        question.take(purpose, self._clock())
        if len(answer) > ANSWER_LIMIT:
            raise FactorRefused(REFUSED)
        try:
            credential = parse_authentication_credential_json(answer)
            credential_id = bytes_to_base64url(credential.raw_id)
        except Exception:  # noqa: BLE001 - the parsers raise whatever crafted input makes them
            raise FactorRefused(REFUSED) from None
        with self._database.read() as session:
            row = session.scalar(select(Passkey).where(Passkey.credential_id == credential_id))
        if row is None:
            raise FactorRefused(REFUSED)
        verified = self._signed(question, credential, row)
        with self._database.write() as session:
            user = locked(session, row.user_id)
            accepted = (
                user is not None
                and verified is not None
                and self._counted(session, row, verified, address)
            )
            if not accepted:
                refuse(
                    self._audit,
                    session,
                    row.user_id,
                    PASSKEY,
                    address=address,
                    subject_id=row.id,
                )
        if not accepted or user is None:
            raise FactorRefused(REFUSED)
        return to_user(user)

    def _signed(
        self, question: Question, credential: AuthenticationCredential, row: Passkey
    ) -> VerifiedAuthentication | None:
        """What the passkey says, if it is one that was asked and its signature is right."""
        if question.user_id is not None and question.user_id != row.user_id:
            return None
        handle = credential.response.user_handle
        # Without a name it is the handle that says who signs in.
        if handle != row.user_id.encode() and (handle or question.user_id is None):
            return None
        try:
            return verify_authentication_response(
                credential=credential,
                expected_challenge=question.challenge,
                expected_rp_id=self._rp_id,
                expected_origin=self._origin,
                credential_public_key=row.public_key,
                # The library would look at the counter before it knows who sent it, and anybody
                # could have a passkey marked; it is looked at below.
                credential_current_sign_count=0,
                require_user_verification=question.purpose != "second-step",
            )
        except Exception:  # noqa: BLE001 - the parsers raise whatever crafted input makes them
            return None

    def _counted(
        self, session: Session, row: Passkey, found: VerifiedAuthentication, address: str
    ) -> bool:
        """Whether the counter has grown, or stayed 0 as with passkeys that have none."""
        now, count = self._clock(), found.new_sign_count
        grown = Passkey.sign_count < count
        if count == 0:
            grown = Passkey.sign_count == 0
        used: Any = session.execute(
            update(Passkey)
            .where(Passkey.id == row.id, grown)
            .values(sign_count=count, last_used_at=now, backed_up=found.credential_backed_up),
            execution_options={"synchronize_session": False},
        )
        if used.rowcount:
            return True
        marked: Any = session.execute(
            update(Passkey)
            .where(Passkey.id == row.id)
            .values(cloned_at=func.coalesce(Passkey.cloned_at, now)),
            execution_options={"synchronize_session": False},
        )
        if marked.rowcount:
            details = {"address": address} if address else {}
            event = Event("passkey.cloned", row.user_id, row.user_id, row.id, details=details)
            note(self._audit, session, event)
        return False

    def _ask(
        self,
        purpose: Purpose,
        user_id: str | None,
        rows: Sequence[Passkey],
        verification: UserVerificationRequirement,
    ) -> Question:
        challenge = secrets.token_bytes(32)
        options = generate_authentication_options(
            rp_id=self._rp_id or "localhost",
            challenge=challenge,
            timeout=_milliseconds(BROWSER_WAITS),
            allow_credentials=_descriptors(rows),
            user_verification=verification,
        )
        return self._question(purpose, user_id, challenge, options)

    def _question(
        self, purpose: Purpose, user_id: str | None, challenge: bytes, options: Any
    ) -> Question:
        return Question(
            new_id(),
            purpose,
            user_id,
            challenge,
            json.loads(options_to_json(options)),
            self._clock() + ANSWER_WITHIN,
        )

    def _check_room(self, session: Session, user: UserRow) -> Sequence[Passkey]:
        rows = session.scalars(select(Passkey).where(Passkey.user_id == user.id)).all()
        if len(rows) >= MOST:
            raise Conflict(f"There are {MOST} passkeys already. Remove one that is not needed.")
        return rows


def _why_not(origin: str) -> str | None:
    parts = urlsplit(origin)
    host = parts.hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        local = host == "localhost" or host.endswith(".localhost")
        if parts.scheme == "https" or local:
            return None
        return "Passkeys need https: an administrator can set it up with PAPITA_PUBLIC_URL."
    return (
        "Browsers offer no passkeys at a numeric address. An administrator can set"
        " PAPITA_PUBLIC_URL to a name; on one machine http://localhost works, 127.0.0.1 does not."
    )


def _milliseconds(time: timedelta) -> int:
    return int(time.total_seconds() * 1000)


def _descriptors(rows: Sequence[Passkey]) -> list[PublicKeyCredentialDescriptor]:
    return [
        PublicKeyCredentialDescriptor(
            id=base64url_to_bytes(row.credential_id),
            transports=[AuthenticatorTransport(name) for name in row.transports.split()] or None,
        )
        for row in rows
    ]


def _transports(answer: dict[str, Any]) -> str:
    """Those that are known, of what the browser says of how the passkey can be reached."""
    said = answer.get("response", {}).get("transports")
    known = {item.value for item in AuthenticatorTransport}
    names = {name for name in said if isinstance(name, str)} if isinstance(said, list) else set()
    return " ".join(sorted(names & known))


def _checked_name(name: str) -> str:
    name = " ".join(name.split())
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise InvalidInput({"name": "Give the passkey a name: one line of 1 to 100 characters."})
    return name


def _owned(session: Session, user_id: str, passkey_id: str) -> Passkey:
    row = session.scalar(
        select(Passkey).where(Passkey.id == passkey_id, Passkey.user_id == user_id)
    )
    if row is None:
        raise NotFound("There is no such passkey.")
    return row


def _info(row: Passkey) -> PasskeyInfo:
    return PasskeyInfo(
        row.id, row.name, row.created_at, row.last_used_at, row.backed_up, row.cloned_at
    )
