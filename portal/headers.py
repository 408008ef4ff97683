"""Security headers on every response, as plain ASGI so that streams pass untouched.

The Content-Security-Policy is the tightest under which Streamlit's own page still runs: its inline
scripts are allowed by hash, everything else comes from this origin.
"""

from __future__ import annotations

import base64
import hashlib
import re

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OWN = ("/api/", "/auth/", "/files/", "/app/static/")
INLINE_SCRIPT = re.compile(r'<script(?: type="module")?>(.*?)</script>', re.DOTALL)

# blob: in script-src is what v2 components with inline code are loaded from; in img-src it is
# Mermaid's, in connect-src a recording that the page reads before it sends it. Streamlit styles its
# elements inline.
PAGE_POLICY = (
    "default-src 'none'",
    "base-uri 'self'",
    "object-src 'none'",
    "frame-ancestors 'none'",
    "form-action 'self'",
    "manifest-src 'self'",
    "script-src 'self' blob: 'wasm-unsafe-eval' {hashes}",
    "style-src 'self' 'unsafe-inline'",
    "connect-src 'self' blob:",
    "img-src 'self' data: blob:",
    "font-src 'self' data:",
    "media-src 'self' blob: data:",
    "worker-src 'self' blob:",
)
API_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


def page_policy(html: str) -> str:
    """The policy for pages, with the hashes of the inline scripts of this one."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in INLINE_SCRIPT.findall(html)
    )
    return "; ".join(PAGE_POLICY).format(hashes=hashes).replace(" ;", ";")


class SecurityHeaders:
    """Middleware; `policy` is that of pages. A header that a route has set itself stays."""

    def __init__(self, app: ASGIApp, policy: str, *, secure: bool) -> None:
        self._app = app
        self._page_policy = policy
        self._common = {
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Permissions-Policy": "camera=(), geolocation=(), microphone=(self), payment=(),"
            " usb=()",
        }
        if secure:
            self._common["Strict-Transport-Security"] = "max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        policy = API_POLICY if is_own_route(scope["path"]) else self._page_policy

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Content-Security-Policy", policy)
                for name, value in self._common.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def is_own_route(path: str) -> bool:
    """Whether a route of ours answers this, rather than a page of Streamlit's."""
    return path.startswith(("/api/", "/auth/", "/files/", "/app/static/")) or path in (
        "/healthz",
        "/readyz",
    )
