"""Recovery codes on the screen: in no widget, no session state and no file of the server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from portal import wiring
from portal.components import Component, source
from portal.texts import t

_HTML: Final = """<ol></ol>
<div class="buttons"><button type="button"></button><button type="button"></button></div>
<p role="status"></p>
"""
_CODES = Component("papita_recovery_codes", source("codes.js"), html=_HTML, css=source("codes.css"))


def show_codes(codes: Sequence[str], username: str) -> None:
    """The codes, with buttons that copy them and save them as a text file."""
    origin = wiring.services().settings.origin
    _CODES(
        key="recovery_codes",
        data={
            "codes": list(codes),
            "file": f"papita-recovery-codes-{username}.txt",
            "head": t("Recovery codes of {name} for {origin}", name=username, origin=origin)
            + "\n"
            + t("Each one serves once, in place of the second factor."),
            "words": {
                "list": t("Recovery codes"),
                "copy": t("Copy"),
                "copied": t("Copied."),
                "by_hand": t("The browser did not allow that. The codes are marked: copy them."),
                "save": t("Save as text"),
                "saved": t("Saved where your browser keeps downloads."),
            },
        },
    )
