"""Everything that can go wrong in `papita_core`, as one tree.

    PapitaError
    ├── InvalidInput              422  what was sent is not usable; `errors` maps field to sentence
    │   └── SecretRequired        422  a new base URL needs the key again
    ├── Unauthenticated           401
    │   ├── SignInRefused         401  wrong name or wrong password, in the same words
    │   ├── FactorRefused         401  a code or passkey that does not fit, or was used before
    │   ├── ProviderSignInRefused 401  what an identity provider said signs nobody in
    │   ├── TicketRefused         401
    │   └── ClientRefused         401  the client's own id or secret
    ├── Forbidden                 403
    │   ├── ApprovalPending       403  signed up, and no administrator has said yes
    │   ├── CrossSiteRefused      403
    │   ├── SignUpClosed          403
    │   ├── ReauthenticationRequired  403  the user has to prove again who they are
    │   └── ConsentRequired       403
    ├── NotFound                  404  not there, or not yours: never told apart
    │   └── CredentialNotFound    404
    ├── Conflict                  409
    │   ├── CredentialExpired     409
    │   ├── LastFactor            409  what would be taken away is the last of its kind
    │   └── AlreadyExists         409
    ├── PreconditionFailed        412
    ├── IdempotencyMismatch       422
    ├── PreconditionRequired      428
    ├── TooManyAttempts           429  carries `retry_after` in seconds
    ├── BudgetExceeded            429  carries `retry_after` and the `budget`, in numbers
    ├── SetupRefused              403
    ├── LinkRefused               410  carries the `reason`, for example `used`
    ├── TokenRequestRefused       400  RFC 6749 section 5.2; carries `oauth_error`
    ├── ProjectUnavailable        503
    ├── VaultSealed               503
    │   └── MasterKeyUnavailable  503  a service keeps the master key, and does not do its part
    └── SecretUnreadable          500

`code` is stable and documented in docs/api.md; `str(error)` is a sentence that a user may read.
No message holds a secret or repeats what the caller sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar


class PapitaError(Exception):
    """Base of all errors of this package."""

    code = "internal-error"
    title = "Something went wrong"
    status = 500
    sentence = "Something went wrong on our side. Try again; if it stays, tell your administrator."

    def __init__(self, detail: str | None = None) -> None:
        self.detail = detail or self.sentence
        super().__init__(self.detail)


class InvalidInput(PapitaError):
    code = "invalid-input"
    title = "The input cannot be used"
    status = 422
    sentence = "Some fields need another value."

    def __init__(self, errors: Mapping[str, str], detail: str | None = None) -> None:
        self.errors = dict(errors)
        super().__init__(detail or " ".join(self.errors.values()) or None)


class SecretRequired(InvalidInput):
    code = "secret-required"
    title = "The key is needed again"


class Unauthenticated(PapitaError):
    code = "unauthenticated"
    title = "Sign in first"
    status = 401
    sentence = "This needs a valid session or token. Sign in, or send a valid bearer token."


class SignInRefused(Unauthenticated):
    code = "sign-in-refused"
    sentence = "The user name or the password is not right."


class FactorRefused(Unauthenticated):
    """A second factor was not accepted. Wrong and used codes get the same words."""

    code = "factor-refused"
    title = "The second factor is not accepted"
    sentence = "This code is not right, or it was used already. Wait for the next one."


class ProviderSignInRefused(Unauthenticated):
    code = "provider-sign-in-refused"
    title = "The sign-in at the provider came to nothing"
    sentence = "Signing in at the provider did not work. Try again, or sign in another way."


class TicketRefused(Unauthenticated):
    code = "ticket-refused"
    sentence = "This sign-in ticket is used up or too old. Sign in again."


class ClientRefused(Unauthenticated):
    code = "invalid-client"
    title = "The client is not known"
    sentence = (
        "The client id or client secret is not right. Check ALCHAT_CLIENT_SECRET on both sides."
    )


class Forbidden(PapitaError):
    code = "forbidden"
    title = "Not allowed"
    status = 403
    sentence = "You may not do this. Ask an administrator if you need to."


class ApprovalPending(Forbidden):
    code = "approval-pending"
    title = "The account waits for approval"
    sentence = "An administrator has to approve your account first. Try again later."


class CrossSiteRefused(Forbidden):
    code = "cross-site"
    sentence = "This request did not come from the portal's own pages."


class ReauthenticationRequired(Forbidden):
    code = "reauthentication-required"
    title = "Confirm that it is you"
    sentence = "Confirm that it is you first: this needs your password or passkey once more."


class ConsentRequired(Forbidden):
    code = "consent-required"
    title = "The project may not use this key"
    sentence = "You have not allowed this project to use your key. Open it from the dashboard."


class ProjectDisabled(Forbidden):
    code = "project-disabled"
    title = "The project is switched off"
    sentence = "An administrator has switched this project off. Ask one if you need it."


class SetupRefused(Forbidden):
    code = "setup-refused"
    title = "The set-up code does not open anything"
    sentence = (
        "This set-up code is wrong, used up or too old. Start Papita again to get a fresh one."
    )


class SignUpClosed(Forbidden):
    code = "sign-up-closed"
    title = "Nobody can sign up here"
    sentence = "Nobody can sign up here by themselves. Ask an administrator for an invitation."


class LinkRefused(PapitaError):
    """An invitation or a link for a new password that does not serve. `reason` is unknown, used,
    revoked, expired or disabled.
    """

    code = "link-refused"
    title = "This link does not serve"
    status = 410
    sentence = "This link is not right. Copy all of it, or ask an administrator for a new one."
    sentences: ClassVar[Mapping[str, str]] = {
        "used": "This link has been used already. If it was you, log in; if not, tell an"
        " administrator at once.",
        "revoked": "This link was taken back. Ask an administrator for a new one.",
        "expired": "This link is too old. Ask an administrator for a new one.",
        "disabled": "This account is disabled. Ask an administrator.",
    }

    def __init__(self, reason: str = "unknown") -> None:
        self.reason = reason
        super().__init__(self.sentences.get(reason))


class NotFound(PapitaError):
    code = "not-found"
    title = "Not found"
    status = 404
    sentence = "There is nothing here that you can see."


class CredentialNotFound(NotFound):
    code = "credential-not-found"
    sentence = "There is no such credential. Add one in the credentials editor."


class Conflict(PapitaError):
    code = "conflict"
    title = "That does not fit the present state"
    status = 409
    sentence = "That does not fit the present state. Load it again and repeat."


class CredentialExpired(Conflict):
    code = "credential-expired"
    title = "The credential has expired"
    sentence = "The credential has expired. Replace it in the credentials editor."


class CredentialDisabled(Conflict):
    code = "credential-disabled"
    title = "The credential is switched off"
    sentence = "The credential is switched off. Switch it on in the credentials editor."


class TestFailed(Conflict):
    """A new secret did not pass its test; `status` is what the test said."""

    __test__ = False

    code = "test-failed"
    title = "The new key did not pass its test"

    def __init__(self, status: str, detail: str) -> None:
        self.test_status = status
        super().__init__(f"{detail} The old key is still in force.")


class LastFactor(Conflict):
    code = "last-factor"
    title = "Something has to be left"
    sentence = "A second factor is required of you. Add another one before you remove this one."


class IdempotencyInFlight(Conflict):
    code = "idempotency-in-flight"
    title = "The first request is still being served"
    sentence = "A request with this Idempotency-Key is still being served. Repeat it in a second."


class RotationRunning(Conflict):
    code = "rotation-running"
    title = "A rotation is going on"
    sentence = "A rotation is going on already. Wait until it has finished."


class AlreadyExists(Conflict):
    code = "already-exists"
    title = "Already there"


class IdempotencyMismatch(PapitaError):
    code = "idempotency-mismatch"
    title = "The key belongs to another request"
    status = 422
    sentence = "This Idempotency-Key was used with another body. Take a fresh one."


class PreconditionFailed(PapitaError):
    code = "precondition-failed"
    title = "It was changed meanwhile"
    status = 412
    sentence = "It was changed meanwhile. Load it again and repeat your change."


class PreconditionRequired(PapitaError):
    code = "precondition-required"
    title = "If-Match is missing"
    status = 428
    sentence = "Send If-Match with the ETag that you read, so that nobody's change is lost."


class TooManyAttempts(PapitaError):
    code = "rate-limited"
    title = "Too many requests"
    status = 429

    def __init__(self, retry_after: int) -> None:
        self.retry_after = max(1, retry_after)
        super().__init__(f"Too many attempts. Try again in {_duration(self.retry_after)}.")


def _duration(seconds: int) -> str:
    if seconds < 100:
        return f"{seconds} second{'s' * (seconds != 1)}"
    return f"{-(-seconds // 60)} minutes"


class BudgetExceeded(PapitaError):
    """What may be spent with a credential in a day or a month is spent."""

    code = "budget-exceeded"
    title = "The budget is used up"
    status = 429

    def __init__(self, detail: str, *, retry_after: int, budget: Mapping[str, Any]) -> None:
        self.retry_after = max(1, retry_after)
        self.budget = dict(budget)
        super().__init__(detail)


class TokenRequestRefused(PapitaError):
    """A token request that RFC 6749 (section 5.2) or RFC 8693 (section 2.2.2) refuses."""

    code = "invalid-token-request"
    title = "No token for this request"
    status = 400

    def __init__(self, oauth_error: str, detail: str) -> None:
        self.oauth_error = oauth_error
        super().__init__(detail)


class ProjectUnavailable(PapitaError):
    """The project cannot be reached or started; `str(error)` says why."""

    code = "project-unavailable"
    title = "The project is not available"
    status = 503
    sentence = "The project is not available at the moment. Try again in a minute."


class VaultSealed(PapitaError):
    code = "vault-sealed"
    title = "The vault is sealed"
    status = 503
    sentence = (
        "The vault is sealed: its master key is missing. Nothing is lost;"
        " an administrator has to start Papita with the right PAPITA_MASTER_KEY."
    )


class MasterKeyUnavailable(VaultSealed):
    code = "master-key-unavailable"
    title = "The master key's service does not answer"
    sentence = (
        "The service that keeps the master key does not answer. Nothing is lost; try again in a"
        " minute, and tell your administrator if it stays."
    )


class SecretUnreadable(PapitaError):
    code = "secret-unreadable"
    title = "The secret cannot be read"
    status = 500
    sentence = "This secret cannot be read: it was changed outside Papita. Replace the key."


def all_errors() -> Iterator[type[PapitaError]]:
    """Every error class of the tree, the base first."""
    pending: list[type[PapitaError]] = [PapitaError]
    while pending:
        error = pending.pop(0)
        yield error
        pending.extend(error.__subclasses__())
