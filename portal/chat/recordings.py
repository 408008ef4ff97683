"""What this tab has recorded, and what was beside it in the input."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from uuid import uuid4

from portal.session import OutgoingFile, remembered


@dataclass(slots=True)
class Recording:
    """`text` and `files` were beside it in the input. It has failed where there is a `problem`."""

    conversation_id: str | None
    data: bytes = field(repr=False)
    media_type: str
    text: str
    files: list[OutgoingFile]
    key: str = field(default_factory=lambda: uuid4().hex)
    words: Future[str] | None = field(default=None, repr=False)
    problem: str = ""
    code: str = ""


@dataclass(slots=True)
class Dictation:
    """What this tab has recorded, in its order, and the files that go with the next message."""

    recordings: list[Recording] = field(default_factory=list)
    files: dict[str | None, list[OutgoingFile]] = field(default_factory=dict)

    def of(self, conversation_id: str | None) -> list[Recording]:
        return [one for one in self.recordings if one.conversation_id == conversation_id]

    def failed(self, conversation_id: str | None) -> list[Recording]:
        return [one for one in self.of(conversation_id) if one.problem]

    def named(self, key: str) -> Recording | None:
        return next((one for one in self.recordings if one.key == key), None)

    def take_files(self, conversation_id: str | None) -> list[OutgoingFile]:
        """They go with a message now."""
        return self.files.pop(conversation_id, [])

    def settle(self, conversation_id: str) -> None:
        """A new chat is this conversation from now on."""
        for one in self.of(None):
            one.conversation_id = conversation_id
        if found := self.take_files(None):
            self.files.setdefault(conversation_id, []).extend(found)

    def done_with(self, recording: Recording) -> None:
        """The recording goes, the files beside it stay."""
        self.recordings.remove(recording)
        if recording.files:
            self.files.setdefault(recording.conversation_id, []).extend(recording.files)


def dictation() -> Dictation:
    return remembered(Dictation)
