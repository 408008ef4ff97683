"""Everything that can go wrong in `alchat_core`, as one tree.

    AlChatServiceError
    ├── Refused                     an answer to a request; `status` and `code` as in the API
    │   ├── Unauthenticated  401    no token, or one that Papita did not issue for AL-Chat
    │   ├── NotYours         403    shared by somebody else, and so not to be changed
    │   ├── NotFound         404    not there, or not yours: never told apart
    │   ├── RunActive        409    an answer in this conversation is still being written
    │   ├── NoTranscription  409    no model of the user's provider turns speech into text
    │   ├── NothingToContinue 409   an answer that was not broken off, or of which nothing is kept
    │   ├── CallNotWaiting   409    a call of a tool that nobody has to decide about (any more)
    │   ├── AttachmentSpaceUsed 413  all files of the user together
    │   ├── UnsupportedAttachment 415
    │   ├── UnsupportedRecording 415
    │   ├── InvalidInput     422
    │   ├── UnreadableAttachment 422  of a kind that is read, but not this one
    │   ├── KeyReused        422    an Idempotency-Key that came with another request
    │   ├── TooManyRunning   429
    │   ├── TooManyUploads   429
    │   ├── TooManyAssistants 429
    │   ├── TooManyToolServers 429
    │   ├── TooManyShares    429
    │   ├── ToolServerFailed 502    a tool server that could not be asked for its tools
    │   ├── ImportRunning    429
    │   ├── NothingImported  422    a file of which nothing could be taken
    │   └── NotReady         503
    └── RunError                    why an answer failed; `code` is one of `RUN_ERRORS`

No message holds a secret or anything that a provider or a user wrote.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class AlChatServiceError(Exception):
    """Base of every error that this package raises on purpose."""


class Refused(AlChatServiceError):
    """A request that is not granted. `str()` is a sentence that a user may read."""

    status = 400
    code = "bad-request"
    title = "The request was refused"

    def __init__(self, detail: str = "", *, retry_after: int | None = None) -> None:
        super().__init__(detail or self.title)
        self.retry_after = retry_after


class Unauthenticated(Refused):
    status = 401
    code = "unauthenticated"
    title = "Sign in to Papita and open AL-Chat from the dashboard."


class NotFound(Refused):
    status = 404
    code = "not-found"
    title = "There is no such thing here."


class NotYours(Refused):
    status = 403
    code = "not-yours"
    title = (
        "Somebody else shares this, and only its owner can change it."
        " Make one of your own from it and change that."
    )


class RunActive(Refused):
    status = 409
    code = "run-active"
    title = (
        "An answer in this conversation is still being written."
        " Wait until it ends or stop it, then send again."
    )


class NothingToContinue(Refused):
    status = 409
    code = "nothing-to-continue"
    title = (
        "There is nothing to continue here: this answer was not broken off, or nothing of it was"
        " kept. Answer the message once more instead."
    )


class NoTranscription(Refused):
    status = 409
    code = "transcription-unavailable"
    title = (
        "Your provider has no model that turns speech into text. Type instead, or add a key of a"
        " provider that has one under Credentials."
    )


class CallNotWaiting(Refused):
    status = 409
    code = "call-not-waiting"
    title = (
        "This call does not wait for a decision: it was decided already, or its answer has ended."
        " Read the answer again."
    )


class InvalidInput(Refused):
    status = 422
    code = "invalid-input"
    title = "What was sent cannot be used."


class AttachmentSpaceUsed(Refused):
    status = 413
    code = "attachment-space-used"
    title = (
        "Your files take all the space that you have here."
        " Delete conversations with files, or files, then upload again."
    )


class UnsupportedAttachment(Refused):
    status = 415
    code = "attachment-unsupported"
    title = (
        "AL-Chat does not read this kind of file. It takes PNG, JPEG, WebP and GIF images, PDF,"
        " DOCX, and text of any kind. Save it as one of these and upload it again."
    )


class UnsupportedRecording(Refused):
    status = 415
    code = "recording-unsupported"
    title = "AL-Chat does not read this kind of recording. It takes WAV, WebM, MP3, M4A and Ogg."


class UnreadableAttachment(Refused):
    status = 422
    code = "attachment-unreadable"
    title = "The file cannot be read."


class TooManyUploads(Refused):
    status = 429
    code = "too-many-uploads"
    title = "You are uploading too many files at once. Wait until one is done, then send the next."


class KeyReused(Refused):
    status = 422
    code = "idempotency-key-reused"
    title = "This Idempotency-Key was already used for another request. Choose a new one."


class TooManyRunning(Refused):
    status = 429
    code = "too-many-running"
    title = "You have too many answers running. Wait until one ends or stop one, then send again."


class TooManyAssistants(Refused):
    status = 429
    code = "too-many-assistants"
    title = "You keep as many prompts and assistants as you may. Delete one, then add this one."


class TooManyToolServers(Refused):
    status = 429
    code = "too-many-tool-servers"
    title = "You keep as many tool servers as you may. Delete one, then add this one."


class ToolServerFailed(Refused):
    status = 502
    code = "tool-server-failed"
    title = "The tool server could not be asked for its tools. Check its address, then try again."


class TooManyShares(Refused):
    status = 429
    code = "too-many-shares"
    title = "You share as many snapshots as you may. Revoke one, then share again."


class ImportRunning(Refused):
    status = 429
    code = "import-running"
    title = "An import of yours is still running. Wait until it ends, then import again."


class NothingImported(Refused):
    """`report` is the answer that an import gives which has taken something."""

    status = 422
    code = "nothing-imported"
    title = (
        "Nothing was imported. The report names what is in the file and why it was not taken;"
        " what is here already is not taken twice."
    )

    def __init__(self, report: dict[str, Any]) -> None:
        super().__init__()
        self.report = report


class NotReady(Refused):
    status = 503
    code = "not-ready"
    title = "AL-Chat cannot work at the moment."


class ShuttingDown(NotReady):
    code = "shutting-down"
    title = "AL-Chat is stopping. Send again in a moment."


class DatabaseUnavailable(NotReady):
    code = "database-unavailable"
    title = (
        "AL-Chat cannot use its database at the moment: it cannot be reached, or its disk is full"
        " or faulty. Try again shortly; if that does not help, tell an administrator."
    )


class PapitaUnreachable(NotReady):
    code = "papita-unreachable"
    title = "AL-Chat cannot reach Papita at the moment. Try again shortly."


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a user reads about a failed answer, and what `GET /api/models` answers for it."""

    message: str
    retryable: bool
    status: int


RUN_ERRORS: dict[str, Explanation] = {
    "credential-missing": Explanation(
        "You have no key in Papita that AL-Chat can use. Add one under Credentials, then try"
        " again.",
        False,
        409,
    ),
    "credential-rejected": Explanation(
        "The provider rejected your API key. Replace it under Credentials, then try again.",
        False,
        409,
    ),
    "credential-expired": Explanation(
        "Your API key has passed its expiry date. Replace it under Credentials, then try again.",
        False,
        409,
    ),
    "credential-disabled": Explanation(
        "Your key is switched off. Switch it on under Credentials or add another, then try again;"
        " if an administrator has blocked it, ask why.",
        False,
        409,
    ),
    "consent-required": Explanation(
        "AL-Chat may not use your key. Allow it by opening AL-Chat from the dashboard,"
        " then try again.",
        False,
        409,
    ),
    "project-disabled": Explanation(
        "An administrator has switched AL-Chat off in Papita, so it gets no key."
        " Ask an administrator, and try again when it is on.",
        False,
        409,
    ),
    "session-ended": Explanation(
        "Your sign-in at Papita has ended or was renewed. Sign in again, then try again.",
        False,
        409,
    ),
    "vault-sealed": Explanation(
        "Papita's vault is sealed, so no key can be read."
        " An administrator has to provide the master key; try again after that.",
        True,
        503,
    ),
    "papita-unreachable": Explanation(
        "AL-Chat could not reach Papita to borrow your key. Try again in a moment.", True, 503
    ),
    "papita-error": Explanation(
        "Papita did not lend your key to AL-Chat. Sign in again and try once more;"
        " if that does not help, ask an administrator.",
        True,
        502,
    ),
    "budget-exceeded": Explanation(
        "The budget of your key in Papita is used up. Raise it under Credentials, add another key,"
        " or wait until it begins anew.",
        False,
        429,
    ),
    "quota-exceeded": Explanation(
        "Your account with the provider has no quota left, and a new key would not change that."
        " Check its plan and billing, then try again.",
        False,
        429,
    ),
    "rate-limited": Explanation(
        "The provider is receiving too many requests with your key. Wait a moment and try again.",
        True,
        429,
    ),
    "model-not-found": Explanation(
        "The provider does not know this model, or your key may not use it."
        " Choose another model, then try again.",
        False,
        404,
    ),
    "context-too-long": Explanation(
        "The conversation is too long for this model."
        " Start a new conversation or choose a model with a larger context.",
        False,
        413,
    ),
    "images-refused": Explanation(
        "The model does not take images. Choose another model, or send the message without them.",
        False,
        422,
    ),
    "attachment-missing": Explanation(
        "A file of this conversation cannot be read any more, so it could not be sent."
        " Send the message again without it, or upload it anew.",
        False,
        409,
    ),
    "tools-refused": Explanation(
        "The model does not take tools. Choose another model, or switch the tools of this"
        " conversation off, then try again.",
        False,
        422,
    ),
    "too-many-tool-rounds": Explanation(
        "The model called tools again and again without coming to an end, so it was stopped."
        " What it wrote is kept; ask for less at a time.",
        True,
        422,
    ),
    "approval-timeout": Explanation(
        "Nobody decided in time whether a tool may be called, so the answer was stopped. What was"
        " written is kept; ask again when you are there to decide.",
        True,
        409,
    ),
    "content-filtered": Explanation(
        "The provider's content filter stopped this answer. Rephrase the message and try again.",
        False,
        422,
    ),
    "provider-unreachable": Explanation(
        "The provider could not be reached. Check the base URL of your key, or try again later.",
        True,
        503,
    ),
    "provider-timeout": Explanation(
        "The provider did not answer in time. Try again in a moment.", True, 504
    ),
    "provider-error": Explanation(
        "The provider reported a fault of its own. Try again in a moment.", True, 502
    ),
    "provider-cut-off": Explanation(
        "The provider broke the connection off in the middle of the answer."
        " What had arrived is kept; try again.",
        True,
        502,
    ),
    "bad-request": Explanation(
        "The provider refused the request as it was sent. Choose another model or"
        " check the base URL of your key, then try again.",
        False,
        422,
    ),
    "storage-failed": Explanation(
        "AL-Chat could not store this answer, so it was stopped. What was shown is kept."
        " Tell an administrator that its database cannot be written, and try again later.",
        True,
        503,
    ),
    "internal-error": Explanation(
        "AL-Chat failed in an unexpected way. Try again; if it happens again,"
        " tell an administrator.",
        True,
        500,
    ),
}


class RunError(AlChatServiceError):
    """Why an answer failed. `message` is one sentence or two for the user.

    `retry_after` is in seconds. `transient`: the provider had answered nothing yet, and asking it
    again by ourselves makes sense; `retryable` is what the user is told.
    """

    def __init__(
        self,
        code: str,
        message: str | None = None,
        *,
        retryable: bool | None = None,
        retry_after: int | None = None,
        transient: bool = False,
    ) -> None:
        known = RUN_ERRORS[code]
        super().__init__(code)
        self.code = code
        self.message = message or known.message
        self.retryable = known.retryable if retryable is None else retryable
        self.retry_after = retry_after
        self.transient = transient
        self.status = known.status

    def as_json(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "message": self.message,
            "retryable": self.retryable,
            "retryAfter": self.retry_after,
        }
