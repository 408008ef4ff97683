"""Signing in at a provider, from the button to the session; linking, proving, logging out."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlencode

from papita_core.actors import Actor
from papita_core.audit.service import AuditLog
from papita_core.clock import Clock, utc_now
from papita_core.db import Database
from papita_core.errors import Forbidden, NotFound
from papita_core.settings import Settings
from papita_core.users.oidc.accounts import Identity, IdentityService, Person, says_groups
from papita_core.users.oidc.attempts import Attempt, AttemptService, BrowserSecret, Purpose
from papita_core.users.oidc.client import LOGOUT_TOKEN_LIFE, ProviderClient, Tokens
from papita_core.users.oidc.errors import LogoutTokenRefused, Reason, Refused
from papita_core.users.oidc.providers import Provider
from papita_core.users.policies import PolicyService
from papita_core.users.service import User, UserService
from papita_core.users.sessions import ProviderSession, SessionService, SignInSession

log = logging.getLogger(__name__)

CALLBACK = "/auth/oidc/callback"
LOGGED_OUT_THERE = "ended-at-provider"  # why a session ended
ERRORS: Mapping[str, Reason] = {
    "access_denied": "declined",
    "login_required": "declined",
    "interaction_required": "declined",
    "server_error": "unreachable",
    "temporarily_unavailable": "unreachable",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back through the browser. `callback`: the provider whose own address it came to."""

    state: str
    code: str | None = None
    error: str | None = None
    iss: str | None = None
    callback: str | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """How an attempt ended. `user` is who is to be signed in; None after linking and proving."""

    attempt: Attempt
    user: User | None
    session: ProviderSession


class OidcService:
    """Raises `Refused` wherever a sign-in comes to nothing."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        providers: Mapping[str, Provider],
        users: UserService,
        policies: PolicyService,
        sessions: SessionService,
        audit: AuditLog,
        clock: Clock = utc_now,
    ) -> None:
        self.providers = dict(providers)
        self._database = database
        self._origin = settings.origin
        self._sessions = sessions
        self._clock = clock
        self._attempts = AttemptService(database, clock)
        self._identities = IdentityService(database, users, policies, sessions, audit, clock)
        self._clients = {
            name: ProviderClient(provider, self.callback(provider), clock)
            for name, provider in self.providers.items()
        }

    def callback(self, provider: Provider) -> str:
        """The redirect URI to register at the provider."""
        own = f"/{provider.name}" if provider.own_callback else ""
        return f"{self._origin}{CALLBACK}{own}"

    def begin(
        self,
        provider: str,
        purpose: Purpose,
        secret: BrowserSecret,
        *,
        next_page: str,
        remember: bool = False,
        session: SignInSession | None = None,
    ) -> str:
        """The address at the provider to which the browser goes now.

        Linking and proving take the `session` of whoever asks; linking takes a recent proof as
        well. Raises `NotFound`, `Forbidden`, `ReauthenticationRequired` and `Refused`.
        """
        client = self._client(provider)
        if purpose == "sign-in":
            session = None
        elif session is None:
            raise Forbidden
        elif purpose == "link":
            actor = Actor.for_session(session)
            actor.require("profile")
            actor.require_proof(self._clock())
        self._check_mix_up(client)
        state, attempt = self._attempts.begin(
            provider,
            purpose,
            secret,
            next_page=next_page,
            remember=remember,
            user_id=None if session is None else session.user_id,
            session_id=None if session is None else session.id,
        )
        return client.authorization_url(
            state=state,
            nonce=attempt.nonce,
            verifier=attempt.verifier,
            again=purpose == "proof",
        )

    def _check_mix_up(self, client: ProviderClient) -> None:
        """With several providers an answer has to tell whose it is (RFC 9700, section 4.4)."""
        provider = client.provider
        sends_iss = client.metadata().sends_iss
        if len(self.providers) > 1 and not sends_iss and not provider.own_callback:
            log.error(
                "provider %s: it does not send iss with its answers; since there are several"
                " providers, it needs own_callback = true and the redirect URI %s",
                provider.name,
                f"{self._origin}{CALLBACK}/{provider.name}",
            )
            raise Refused("misconfigured")

    def finish(
        self,
        answer: Answer,
        secret: BrowserSecret | None,
        *,
        session: SignInSession | None,
        address: str = "",
    ) -> Done:
        """Trades the answer for a verified identity and does what it was asked for.

        `session` is the browser's at this moment. Raises `Refused`, with the page to go back to,
        and `VaultSealed`.
        """
        attempt = self._attempts.claim(answer.state, secret)
        try:
            return self._finish(answer, attempt, session, address)
        except Refused as refusal:
            refusal.next_page = attempt.next_page
            raise

    def _finish(
        self, answer: Answer, attempt: Attempt, session: SignInSession | None, address: str
    ) -> Done:
        client = self._clients.get(attempt.provider)
        if client is None:
            raise Refused("stale")
        provider = client.provider
        if answer.callback != (provider.name if provider.own_callback else None):
            log.warning("provider %s: refused an answer to another's address", provider.name)
            raise Refused("not-verified")
        client.check_answer(answer.iss)
        if attempt.purpose != "sign-in" and (session is None or session.id != attempt.session_id):
            raise Refused("session-changed")
        if answer.error is not None or not answer.code:
            raise Refused(ERRORS.get(answer.error or "", "misconfigured"))
        tokens = client.trade(
            answer.code,
            verifier=attempt.verifier,
            nonce=attempt.nonce,
            since=attempt.begun_at if attempt.purpose == "proof" else None,
        )
        there = ProviderSession(provider.issuer, tokens.subject, tokens.sid)
        if attempt.purpose == "proof":
            if not self._identities.belongs(
                str(attempt.user_id), Person(provider.issuer, tokens.subject)
            ):
                raise Refused("other-person")
            return Done(attempt, None, there)
        person = self._person(client, tokens)
        if attempt.purpose == "link":
            self._identities.link(str(attempt.user_id), provider, person)
            return Done(attempt, None, there)
        return Done(attempt, self._identities.sign_in(provider, person, address=address), there)

    def _person(self, client: ProviderClient, tokens: Tokens) -> Person:
        provider, claims = client.provider, tokens.claims
        asked = ("email", "preferred_username", "name")
        enough = self._identities.knows(provider.issuer, tokens.subject) or all(
            name in claims for name in asked
        )
        if enough and (not provider.roles or says_groups(provider, claims)):
            return Person.of(provider, claims)
        # What the id token says goes before; it is signed.
        return Person.of(provider, {**client.userinfo(tokens), **claims})

    def _client(self, provider: str) -> ProviderClient:
        client = self._clients.get(provider)
        if client is None:
            raise NotFound("There is no such identity provider.")
        return client

    # --- the user's own ---

    def identities(self, actor: Actor) -> list[Identity]:
        """With which accounts at providers the actor signs in."""
        return self._identities.of_user(actor.user_id)

    def unlink(self, actor: Actor, identity_id: str) -> None:
        """See `IdentityService.unlink`."""
        self._identities.unlink(actor, identity_id, self.providers)

    # --- logging out ---

    def back_channel_logout(self, token: str) -> int:
        """Ends the sessions that a logout token names; says how many.

        Raises `LogoutTokenRefused` for a token that is none or was used, and `Refused`.
        """
        client = self._of(_unverified_issuer(token))
        if client is None:
            raise LogoutTokenRefused
        name = client.provider.name
        wanted = client.logout_token(token)
        with self._database.write() as session:
            stays = LOGOUT_TOKEN_LIFE + timedelta(minutes=5)
            if not self._attempts.use_logout_token(session, name, wanted.jti, stays):
                raise LogoutTokenRefused
            return self._sessions.end_at_provider(
                session,
                wanted.issuer,
                subject=wanted.subject,
                sid=wanted.sid,
                reason=LOGGED_OUT_THERE,
            )

    def logout_address(self, issuer: str | None) -> str | None:
        """Where the browser goes to log out there as well, for a session that began at `issuer`
        and if its table says so. None where it goes nowhere, or the provider does not answer.
        """
        client = self._of(issuer)
        if client is None or not client.provider.logout_at_provider:
            return None
        try:
            address = client.metadata().end_session_endpoint
        except Refused:
            return None
        if address is None:
            return None
        query = urlencode(
            {
                "client_id": client.provider.client_id,
                "post_logout_redirect_uri": f"{self._origin}/",
            }
        )
        return f"{address}{'&' if '?' in address else '?'}{query}"

    def _of(self, issuer: str | None) -> ProviderClient | None:
        clients = self._clients.values()
        return next((client for client in clients if client.provider.issuer == issuer), None)


def _unverified_issuer(token: str) -> str | None:
    """Which provider's keys to try a token with; nothing else is taken from it."""
    try:
        body = token.split(".")[1]
        found = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (ValueError, IndexError, RecursionError):
        return None
    issuer = found.get("iss") if isinstance(found, dict) else None
    return issuer if isinstance(issuer, str) else None
