"""Small parts of pages that Streamlit has none of its own for: v2 components, without a build.

Their data go as a list of one, since Streamlit looks through a dict for data frames on every run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import streamlit as st
from streamlit.runtime.scriptrunner_utils.script_run_context import ThreadState

FOLDER: Final = Path(__file__).parent

# What a script exports waits in the page for the components that use it.
_KEEP: Final = """
const parts = globalThis.papitaParts ??= new Map()
const waits = parts.get("NAME")
parts.set("NAME", part)
if (Array.isArray(waits)) for (const go of waits) go(part)
export default () => {}
"""
_USE: Final = """
const parts = globalThis.papitaParts ??= new Map()
function whenThere(go) {
  const part = parts.get("NAME")
  if (typeof part === "function") go(part)
  else if (part) part.push(go)
  else parts.set("NAME", [go])
}
export default given => {
  let end, over = false
  const [data] = given.data
  whenThere(part => { if (!over) end = part({ ...given, data }) })
  return () => { over = true; end?.() }
}
"""


def source(name: str) -> str:
    """The script or style sheet of that name, without what only its readers need: it goes to the
    browser with each first sight of its component.
    """
    lines = (line.strip() for line in (FOLDER / name).read_text("utf-8").splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//"))


class Component:
    """A component whose data change more often than its script.

    Streamlit sends a script along with the data whenever they have changed. So the script, which
    exports one function by default, is a component of its own that never changes.
    """

    def __init__(self, name: str, code: str, **options: Any) -> None:
        code = code.replace("export default function", "const part = function")
        self._name = name
        self._code = st.components.v2.component(
            f"{name}_script", js=code + _KEEP.replace("NAME", name), isolate_styles=False
        )
        self._use = st.components.v2.component(name, js=_USE.replace("NAME", name), **options)

    def __call__(self, *, key: str, data: Any, **given: Any) -> Any:
        """Mounts it, as a component of Streamlit's is mounted, with as much space as that."""
        with st.container(gap=None):
            # The same message inside and outside of a fragment: who has it needs it no more.
            with ThreadState.scoped(fragment_id=None):
                self._code(key=f"{key}_script", height=0)
            return self._use(key=key, data=[data], **given)
