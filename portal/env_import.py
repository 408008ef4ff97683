"""The dialog that reads a `.env` file: what is a key is tested, chosen and stored in one go.

What was pasted leaves the tab's state when it has been read. The keys that were recognised are held
until the dialog closes and for ten minutes at most.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import cast

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import UploadedFile

from papita_core.actors import Actor
from papita_core.credential_types import CREDENTIAL_TYPES
from papita_core.errors import InvalidInput, PapitaError
from papita_core.vault.importing import Candidate, EnvFile, Skipped, read_env
from papita_core.vault.service import TestResult
from portal import wiring
from portal.credential_tests import show_badge, show_testing
from portal.dialogs import close_when_done, dialog
from portal.session import actor, require_user, tab
from portal.texts import N_, said, t, tn, translated
from portal.words import plain

FORM = "env_import"
TEXT, FILE, HELD = f"{FORM}_text", f"{FORM}_file", f"{FORM}_held"
HOLD_SECONDS = 600.0
TICK_SECONDS = 0.5
MAX_MEGABYTES = 1
UNWANTED = ("rejected", "refused")
EXAMPLE = "OPENAI_API_KEY=…\nGROQ_API_KEY=…"
NOT_TEXT = N_("This file is not text in UTF-8. Save it anew, or paste its lines.")
EMPTY = N_("Paste some lines, or choose a file.")

# Few at once: the addresses are the user's, and a provider may not like a crowd.
_asking = ThreadPoolExecutor(max_workers=8, thread_name_prefix="key-import")


class Held:
    """What was read, until it is stored or forgotten. No repr shows it."""

    def __init__(self, found: EnvFile, known: set[int]) -> None:
        self.candidates: list[Candidate] = found.candidates
        self.skipped: list[Skipped] = found.skipped
        self.known = known
        self.tests: list[Future[TestResult]] = []
        self.too_late = False
        self._timer = threading.Timer(HOLD_SECONDS, self._time_is_up)
        self._timer.daemon = True
        self._timer.start()

    def forget(self) -> None:
        """Lets go of all keys; tests that have not begun are not begun any more."""
        self._timer.cancel()
        for test in self.tests:
            test.cancel()
        self.candidates, self.tests = [], []

    def _time_is_up(self) -> None:
        self.too_late = True
        self.forget()


def clear() -> None:
    """Forgets everything that was pasted, uploaded or read."""
    held = st.session_state.pop(HELD, None)
    if held is not None:
        held.forget()
    _drop_file()
    tab().errors.pop(FORM, None)
    for name in list(st.session_state):
        if str(name).startswith(f"{FORM}_"):
            del st.session_state[name]


@dialog(N_("Import .env"), icon=":material/upload_file:", on_dismiss=clear)
def import_env() -> None:
    """Paste or upload, read, choose, store."""
    require_user("credentials:write")
    close_when_done(clear)
    held: Held | None = st.session_state.get(HELD)
    if held is None:
        _ask_for_text()
    else:
        _show_found(held)


def _ask_for_text() -> None:
    st.markdown(
        t("Paste the file, or some lines of it. Only keys that are recognised are offered.")
    )
    st.text_area(
        t("Lines"),
        key=TEXT,
        height=170,
        placeholder=EXAMPLE,
        label_visibility="collapsed",
        on_change="ignore",
    )
    problem = tab().errors.get(FORM, {}).get("form")
    if problem:
        st.error(plain(problem), icon=":material/error:")
    st.button(t("Read"), key=f"{FORM}_read", type="primary", width="stretch", on_click=_read)
    st.file_uploader(
        t("Or choose a file"), key=FILE, max_upload_size=MAX_MEGABYTES, on_change=_read
    )
    st.caption(t("Nothing is stored before you choose. Each key is tested with its provider."))


def _read() -> None:
    state = tab()
    state.errors.pop(FORM, None)
    try:
        text = _taken_text()
        if not text.strip():
            raise InvalidInput({"env": EMPTY})
        vault, who = wiring.services().papita.credentials, actor()
        found = read_env(text)
        held = Held(found, vault.known(who, found.candidates))
    except PapitaError as error:
        state.errors[FORM] = {"form": said(error)}
        return
    st.session_state[HELD] = held
    held.tests = [_asking.submit(_tested, who, it) for it in held.candidates]


def _taken_text() -> str:
    """What was pasted or uploaded, which is gone from the session after this."""
    pasted = str(st.session_state.pop(TEXT, None) or "")
    file: UploadedFile | None = st.session_state.get(FILE)
    if pasted.strip() or file is None:
        return pasted
    try:
        return file.getvalue().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput({"env": NOT_TEXT}) from None
    finally:
        _drop_file()


def _drop_file() -> None:
    """Takes the uploaded file out of the server's memory, where it would stay with the tab."""
    file: UploadedFile | None = st.session_state.pop(FILE, None)
    context = get_script_run_ctx()
    if file is None or context is None:
        return
    remove = getattr(context.uploaded_file_mgr, "remove_file", None)
    if remove is not None:
        remove(session_id=context.session_id, file_id=file.file_id)


def _tested(who: Actor, candidate: Candidate) -> TestResult:
    return wiring.services().papita.credentials.test_secret(who, candidate.new())


# --- what was found ---


@st.fragment(run_every=TICK_SECONDS)
def _show_found(held: Held) -> None:
    """The list, drawn anew while tests end. No script waits for them: as long as one runs, the
    browser keeps sending what was pasted.
    """
    require_user("credentials:write", seen=False)
    close_when_done(clear)
    if held.too_late:
        st.info(
            t(
                "Ten minutes have passed, so the keys are forgotten here. Nothing was stored. Close"
                " this and paste them once more."
            ),
            icon=":material/timer_off:",
        )
        return
    rows = list(zip(held.candidates, held.tests, strict=False))
    if rows:
        st.markdown(
            t("Choose what to store. A key that its provider rejects is not chosen for you.")
        )
    else:
        st.info(t("No key was recognised. Add it by hand instead."), icon=":material/search_off:")
    chosen = [
        number
        for number, (candidate, test) in enumerate(rows)
        if _show_row(number, candidate, test, known=number in held.known)
    ]
    problem = tab().errors.get(FORM, {}).get("form")
    if problem:
        st.error(plain(problem), icon=":material/error:")
    if rows:
        _show_store_button(chosen, sum(not test.done() for _, test in rows))
    _show_skipped(held.skipped)


def _show_store_button(chosen: list[int], waiting: int) -> None:
    if waiting:
        label = tn("Testing {count} key …", "Testing {count} keys …", waiting)
    elif chosen:
        label = tn("Store {count} key", "Store {count} keys", len(chosen))
    else:
        label = t("Choose a key")
    st.button(
        label,
        icon=":material/progress_activity:" if waiting else None,
        key=f"{FORM}_store",
        type="primary",
        width="stretch",
        disabled=bool(waiting) or not chosen,
        on_click=_store,
        args=(chosen,),
    )


def _show_row(number: int, candidate: Candidate, test: Future[TestResult], *, known: bool) -> bool:
    """What one key is, and, once its test has ended, the box to choose it: whether it is."""
    kind = translated(CREDENTIAL_TYPES[candidate.credential_type].title)
    title = f"**{kind}** `{candidate.hint}`"
    words: dict[str, object] = {"line": candidate.line, "name": candidate.name}
    where = (
        t("Line {line}, `{name}` at `{address}`", address=candidate.base_url, **words)
        if candidate.base_url
        else t("Line {line}, `{name}`", **words)
    )
    chosen, remarks = False, []
    with st.container(border=True, gap="xsmall", key=f"{FORM}_row_{number}"):
        with st.container(horizontal=True, vertical_alignment="center"):
            if test.done():
                status, detail = _outcome(test)
                chosen = st.checkbox(
                    title,
                    value=not known and status not in UNWANTED,
                    key=f"{FORM}_take_{number}",
                )
                show_badge(status)
                remarks = [translated(detail)] if status != "ok" else []
            else:
                st.markdown(title, width="content")
                show_testing()
        st.markdown(f":small[{where}]")
        if known:
            remarks.insert(0, t("You have stored this key already."))
        if remarks:
            st.caption(plain(" ".join(remarks)))
    return chosen


def _outcome(test: Future[TestResult]) -> tuple[str, str]:
    if test.cancelled():
        return "untested", ""
    try:
        result = test.result()
    except PapitaError as error:
        return "error", said(error)
    return result.status, result.detail


def _show_skipped(skipped: Sequence[Skipped]) -> None:
    if not skipped:
        return
    title = tn("Left out: {count} line", "Left out: {count} lines", len(skipped))
    with st.expander(title, icon=":material/filter_alt_off:"):
        st.markdown("\n".join(f"- {_left_out(item)}" for item in skipped))


def _left_out(item: Skipped) -> str:
    why = plain(translated(item.reason))
    if item.name:
        return t("Line {line}, `{name}`: {why}", line=item.line, name=item.name, why=why)
    return t("Line {line}: {why}", line=item.line, why=why)


def _store(numbers: Sequence[int]) -> None:
    state = tab()
    state.errors.pop(FORM, None)
    held = cast("Held | None", st.session_state.get(HELD))
    if held is None or held.too_late:
        return
    try:
        chosen = [held.candidates[number] for number in numbers]
        results = [_result(held.tests[number]) for number in numbers]
        made = wiring.services().papita.credentials.create_many(
            actor(), [it.new() for it in chosen], tested=results
        )
    except InvalidInput as error:
        sentences = dict.fromkeys(error.errors.values())
        state.errors[FORM] = {"form": " ".join(translated(it) for it in sentences)}
    except PapitaError as error:
        state.errors[FORM] = {"form": said(error)}
    else:
        for info, result in zip(made, results, strict=False):
            if result is not None:
                state.tests[info.id] = result.detail
        state.models_until = 0.0
        state.dialog_done = True
        state.notice = tn("{count} key stored.", "{count} keys stored.", len(made))


def _result(test: Future[TestResult]) -> TestResult | None:
    try:
        return test.result(timeout=0)
    except (PapitaError, TimeoutError):
        return None
