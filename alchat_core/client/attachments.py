"""Calls about files for messages."""

from __future__ import annotations

from alchat_core.client.calls import Calls, segment
from alchat_core.client.reading import attachment_of
from alchat_core.client.values import Attachment

# It is read before the service answers, maybe after others.
READING_SECONDS = 180.0


class AttachmentCalls(Calls):
    def upload(self, name: str, data: bytes) -> Attachment:
        """Stores a file; give its id to `send`. Raises `AlChatProblem` if it cannot be used."""
        found = self._send_file(
            "/api/attachments",
            data=data,
            params={"name": name},
            headers={"Content-Type": "application/octet-stream"},
            timeout=READING_SECONDS,
        )
        return attachment_of(found)

    def attachment(self, attachment_id: str) -> Attachment:
        return attachment_of(self._call("GET", f"/api/attachments/{segment(attachment_id)}"))

    def attachment_content(self, attachment_id: str) -> bytes:
        """The file as it was uploaded."""
        path = f"/api/attachments/{segment(attachment_id)}/content"
        return self._client.answer("GET", path, self._token_source()).content

    def delete_attachment(self, attachment_id: str) -> None:
        """Messages that had it go on naming it."""
        self._call("DELETE", f"/api/attachments/{segment(attachment_id)}")
