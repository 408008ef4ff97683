"""The portal's settings: Papita's own, and where AL-Chat is found.

Field `x` is the setting `PAPITA_X`, unless it carries a name of its own.
"""

from __future__ import annotations

import ipaddress
from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from papita_core.settings import Settings, origin_of


class PortalSettings(Settings):
    """What the portal needs to know."""

    api_url: str | None = Field(
        None,
        description="Where AL-Chat finds Papita. Default: the portal's own address here.",
    )
    alchat_port: int = Field(
        8000, ge=0, le=65535, description="Port on which AL-Chat listens.", alias="ALCHAT_PORT"
    )
    alchat_url: str | None = Field(
        None,
        description="Where the portal finds AL-Chat. Default: http://localhost:<its port>. An"
        " address of this machine means that the portal also starts it; any other that it only"
        " watches it.",
        alias="ALCHAT_URL",
    )

    known_elsewhere: ClassVar[frozenset[str]] = frozenset()

    @field_validator("api_url", "alchat_url")
    @classmethod
    def _service_url(cls, value: str | None) -> str | None:
        return None if value is None else origin_of(value)

    @property
    def local_api_url(self) -> str:
        """The address that an AL-Chat started by this portal gets."""
        if self.api_url:
            return self.api_url
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host  # noqa: S104
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def alchat_origin(self) -> str:
        return self.alchat_url or f"http://localhost:{self.alchat_port}"

    @property
    def alchat_address(self) -> tuple[str, int]:
        """Host and port of AL-Chat."""
        parts = urlsplit(self.alchat_origin)
        return parts.hostname or "localhost", parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def starts_alchat(self) -> bool:
        """True if AL-Chat's address is one of this machine."""
        host = self.alchat_address[0]
        if host == "localhost":
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False
