"""Dialogs whose titles are in the language of whoever opens them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import streamlit as st

from portal.session import tab
from portal.texts import translated

P = ParamSpec("P")


def dialog(title: str, **options: Any) -> Callable[[Callable[P, Any]], Callable[P, None]]:
    """Like `st.dialog`, but the title, marked by `N_`, is translated each time it opens."""

    def decorate(body: Callable[P, Any]) -> Callable[P, None]:
        @wraps(body)
        def opened(*args: P.args, **kwargs: P.kwargs) -> None:
            tab().covered = True
            st.dialog(translated(title), **options)(body)(*args, **kwargs)

        return opened

    return decorate


def close_when_done(clear: Callable[[], object] | None = None) -> None:
    """The first line of a dialog: closes it, after `clear`, once a callback of it has said
    `tab().dialog_done`; what the dialog asks or shows is not drawn any more then.
    """
    if tab().dialog_done:
        tab().dialog_done = False
        if clear is not None:
            clear()
        st.rerun(scope="app")
