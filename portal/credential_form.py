"""The dialogs in which a credential is added, replaced and deleted, for every page that needs them.

A key that was saved is cleared from the tab at once; one that was refused stays in its field until
the dialog closes, so that nothing has to be typed again. The fields come from `CREDENTIAL_TYPES`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from papita_core.credential_types import CREDENTIAL_TYPES, CredentialType, Field, doubt, meets
from papita_core.errors import InvalidInput, PapitaError, PreconditionFailed, TestFailed
from papita_core.usage.budgets import MONTH, PERIODS, Budget, Spending, nano, usd
from papita_core.vault.service import CredentialInfo, NewCredential, ReplaceCredential
from portal import wiring
from portal.confirm import Question, confirm
from portal.credential_tests import start_test
from portal.session import actor, require_user, tab
from portal.words import day, plain, show_field_error

FORM = "credential"
TYPE = f"{FORM}_type"
BASE_URL = f"{FORM}_base_url"
ROWS = f"{FORM}_rows"
ANYWAY = "anyway"  # a problem of this name offers to go on without the test
FIELD_OF = {"baseUrl": "base_url", "projectId": "project_id", "expiresAt": "expires_at"}
NEVER_SHOWN = (
    "It is tested when you save it, stored encrypted, and never shown again, neither to you nor to"
    " an administrator."
)
TESTED_FIRST = "A new key is tested first. The old one stays in force until the new one has passed."
ALL_THE_SAME = "You can save it all the same."
SHORT_DOUBT = 75  # characters, about one line
CHANGED = (
    "This credential was changed meanwhile, in another tab or by a program. Nothing was saved. Look"
    " at what is there now, or save again to put yours in its place."
)


def clear() -> None:
    """Forgets what was typed, keys first of all."""
    tab().errors.pop(FORM, None)
    tab().forms_closed += 1
    for name in list(st.session_state):
        if str(name).startswith(f"{FORM}_"):
            del st.session_state[name]


@st.dialog("Add credential", icon=":material/key:", on_dismiss=clear)
def add_credential() -> None:
    """A new credential; its first test begins when it is stored."""
    _close_when_done()
    st.session_state.setdefault(f"{FORM}_key", secrets.token_hex(16))
    form = _Form()
    form.label("", placeholder="For example: personal")
    kind = form.kind()
    form.secret(kind)
    form.base_url(kind, kind.default_base_url or "")
    form.use(kind, None, None)
    if form.save():
        _create(form, kind)


@st.dialog("Replace credential", icon=":material/key:", on_dismiss=clear)
def replace_credential(info: CredentialInfo) -> None:
    """New values for a credential. An empty key keeps the one that is there; another one takes
    its place only after it has passed its test, unless the user says otherwise.
    """
    _close_when_done()
    st.session_state.setdefault(f"{FORM}_etag", info.etag)
    kind = CREDENTIAL_TYPES[info.credential_type]
    form = _Form()
    st.markdown(f"{kind.title} `{info.hint}`" if info.hint else kind.title)
    form.label(info.label)
    form.secret(kind, instead_of=info.hint)
    form.base_url(kind, info.base_url)
    form.use(kind, info.project_id, info.expires_at)
    form.budget(info.budget)
    saved, anyway = form.save(), form.anyway()
    if saved or anyway:
        _replace(form, info, kind, test_first=not anyway)


def delete_credential(info: CredentialInfo) -> None:
    """Asks, then deletes."""
    others = "" if info.shared == "nobody" else " Those you share it with lose it, too."

    def delete() -> str:
        state = tab()
        wiring.services().papita.credentials.delete(actor(), info.id, etag=info.etag)
        state.models_until = 0.0
        return "Credential deleted."

    confirm(
        Question(
            "Delete credential",
            f"Delete **{plain(info.label)}** ({info.hint})? Projects that use it stop working"
            f" until there is another one.{others} This cannot be undone.",
            "Delete",
            delete,
            "credentials:write",
            icon=":material/delete:",
        )
    )


def _close_when_done() -> None:
    require_user("credentials:write")
    state = tab()
    if state.dialog_done:
        state.dialog_done = False
        state.models_until = 0.0
        clear()
        st.rerun(scope="app")


# --- the form ---


class _Form:
    """The fields in the order in which they are asked for, and below each what is wrong with it.

    A form of Streamlit's own it is not: the fields have to change with the type at once.
    """

    def __init__(self) -> None:
        self._slots: dict[str, DeltaGenerator] = {}

    def label(self, value: str, **options: Any) -> None:
        self._text("Label", "label", value, autocomplete="off", **options)

    def kind(self) -> CredentialType:
        """The type, what it is for, and where one gets a key."""
        chosen = st.selectbox(
            "Type",
            list(CREDENTIAL_TYPES),
            format_func=lambda kind: CREDENTIAL_TYPES[kind].title,
            key=TYPE,
            on_change=_type_changed,
        )
        kind = CREDENTIAL_TYPES[chosen]
        link = f" [Get a key]({kind.key_url})" if kind.key_url else ""
        st.caption(plain(kind.summary) + link)
        self._slot("credentialType")
        return kind

    def secret(self, kind: CredentialType, instead_of: str | None = None) -> None:
        """The secret fields; `instead_of` is the hint of the secret that is there already."""
        if kind.own_fields:
            self._own_fields(instead_of)
        else:
            key, *more = kind.fields
            self._key(kind, key, instead_of)
            for item in more:
                if item.required:
                    self._secret_field(item)
            optional = [item for item in more if not item.required]
            if optional:
                with st.expander("More fields", expanded=_typed(optional)):
                    for item in optional:
                        self._secret_field(item)
        self._slot("credentials")

    def base_url(self, kind: CredentialType, value: str) -> None:
        if kind.takes_base_url:
            self._text("Base URL", "base_url", value, placeholder="https://", autocomplete="off")

    def use(
        self, kind: CredentialType, project_id: str | None, expires_at: datetime | None
    ) -> None:
        """For which project, and until when."""
        projects = {"": "All projects"} | {
            project.id: project.title
            for project in wiring.services().papita.projects.catalogue()
            if project.installed and any(meets(kind.id, it) for it in project.credential_types)
        }
        left, right = st.columns(2)
        with left:
            options = list(projects)
            st.selectbox(
                "Use for",
                options,
                index=options.index(project_id) if project_id in projects else 0,
                format_func=lambda project: projects[project],
                key=f"{FORM}_project_id",
                on_change="ignore",
            )
            self._slot("project_id")
        with right:
            today = datetime.now(UTC).date()
            until = expires_at.date() if expires_at else None
            # By way of the state and not as a default: only so can it be taken away again.
            st.session_state.setdefault(
                f"{FORM}_expires_at", until if until and until >= today else None
            )
            st.date_input(
                "Expires",
                value=None,
                min_value=today,
                max_value=today + timedelta(days=3650),
                key=f"{FORM}_expires_at",
                on_change="ignore",
            )
            self._slot("expires_at")

    def budget(self, standing: Spending | None) -> None:
        """How much may be spent with it, and in which time."""
        left, right = st.columns(2)
        with left:
            limit = None if standing is None else usd(standing.budget.limit_nano)
            st.session_state.setdefault(f"{FORM}_budget", limit)
            st.number_input(
                "Budget in US dollars",
                min_value=0.01,
                max_value=1_000_000.0,
                value=None,
                step=1.0,
                placeholder="None",
                key=f"{FORM}_budget",
                on_change="ignore",
            )
            self._slot("budget")
        with right:
            options = list(PERIODS)
            st.selectbox(
                "Budget for",
                options,
                index=options.index(MONTH if standing is None else standing.budget.period),
                format_func=lambda period: f"Each {period}",
                key=f"{FORM}_budget_period",
                on_change="ignore",
            )

    def save(self) -> bool:
        self._slot("form")
        self._slot(ANYWAY)
        return st.button("Save", key=f"{FORM}_save", type="primary", width="stretch")

    def anyway(self) -> bool:
        """Whether the user goes on although the new key has not passed its test."""
        self._slots["button"] = st.empty()
        return self._anyway_button() if ANYWAY in _errors() else False

    def attempt(self, action: Callable[[], str], waiting: str) -> None:
        """Does it; then closes the dialog with the notice, or shows what is wrong."""
        state = tab()
        state.errors.pop(FORM, None)
        try:
            with st.spinner(waiting):
                state.notice = action()
                # A second click ends this script at the next look at the session: it must find
                # that the work is done.
                state.dialog_done = True
        except InvalidInput as error:
            state.errors[FORM] = {
                FIELD_OF.get(name, name): sentence for name, sentence in error.errors.items()
            }
        except TestFailed as error:
            state.errors[FORM] = {ANYWAY: str(error)}
        except PapitaError as error:
            state.errors[FORM] = {"form": str(error)}
        else:
            _close_when_done()
        # The same key with another body would be refused as a different request.
        st.session_state[f"{FORM}_key"] = secrets.token_hex(16)
        self._show_problems()

    # --- pieces ---

    def _slot(self, name: str) -> None:
        self._slots[name] = st.empty()
        self._show(name)

    def _show(self, name: str) -> None:
        sentence = _errors().get(name)
        with self._slots[name]:
            if sentence is None:
                st.empty()
            elif name in ("form", ANYWAY):
                st.error(plain(sentence), icon=":material/error:")
            else:
                show_field_error(sentence)

    def _show_problems(self) -> None:
        for name in self._slots:
            if name != "button":
                self._show(name)
        for name in _errors().keys() - self._slots.keys():
            with self._slots["form"]:
                show_field_error(_errors()[name])
        if ANYWAY in _errors() and "button" in self._slots:
            with self._slots["button"]:
                self._anyway_button()

    def _anyway_button(self) -> bool:
        with self._slots["button"]:
            return st.button(
                "Replace anyway",
                key=f"{FORM}_anyway",
                icon=":material/warning:",
                width="stretch",
                help="Puts the new key in place although its test failed.",
            )

    def _text(self, label: str, name: str, value: str = "", **options: Any) -> None:
        st.session_state.setdefault(f"{FORM}_{name}", value)
        st.text_input(label, key=f"{FORM}_{name}", on_change="ignore", **options)
        self._slot(name)

    def _key(self, kind: CredentialType, item: Field, instead_of: str | None) -> None:
        # The same number of lines with a doubt and without: nothing moves while one clicks on.
        with st.container(gap="xxsmall"):
            st.text_input(
                item.label,
                key=_secret_place(item.name),
                type="password",
                autocomplete="off",
                placeholder=_placeholder(item, instead_of),
            )
            doubtful = doubt(kind, _secret_value(item.name).strip())
            if doubtful:
                more = f" {ALL_THE_SAME}" if len(doubtful) < SHORT_DOUBT else ""
                st.caption(f":orange[:material/warning: {plain(doubtful + more)}]")
            else:
                st.caption(NEVER_SHOWN if instead_of is None else TESTED_FIRST)
        self._slot(item.name)

    def _secret_field(self, item: Field) -> None:
        st.text_input(
            item.label,
            key=_secret_place(item.name),
            type="password" if item.secret else "default",
            autocomplete="off",
            on_change="ignore",
        )
        self._slot(item.name)

    def _own_fields(self, instead_of: str | None) -> None:
        rows: list[int] = st.session_state.setdefault(ROWS, [0])
        for row in rows:
            with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
                st.text_input(
                    "Field name",
                    key=f"{FORM}_name_{row}",
                    placeholder="client_id",
                    autocomplete="off",
                    on_change="ignore",
                    width=160,
                )
                st.text_input(
                    "Value",
                    key=_secret_place(f"value_{row}"),
                    type="password",
                    autocomplete="off",
                    on_change="ignore",
                )
                if len(rows) > 1:
                    st.button(
                        ":material/close:",
                        key=f"{FORM}_drop_{row}",
                        help="Remove this field",
                        on_click=_drop_row,
                        args=(row,),
                    )
        st.button(
            "Add a field",
            key=f"{FORM}_more",
            icon=":material/add:",
            type="tertiary",
            on_click=_more,
        )
        if instead_of is not None:
            st.caption("Leave all fields empty to keep what is stored. New ones replace all of it.")


def _type_changed() -> None:
    # What was typed for another provider's address would be wrong now; the rest stays.
    kind = CREDENTIAL_TYPES.get(_value("type"))
    st.session_state[BASE_URL] = (kind.default_base_url if kind else None) or ""
    tab().errors.pop(FORM, None)


def _more() -> None:
    rows = st.session_state[ROWS]
    st.session_state[ROWS] = [*rows, max(rows) + 1]


def _drop_row(row: int) -> None:
    st.session_state[ROWS] = [it for it in st.session_state[ROWS] if it != row]


def _placeholder(item: Field, instead_of: str | None) -> str | None:
    if instead_of is not None:
        return f"Leave empty to keep {instead_of}"
    return None if item.required else "Optional"


def _errors() -> Mapping[str, str]:
    return tab().errors.get(FORM, {})


def _value(name: str) -> str:
    return str(st.session_state.get(f"{FORM}_{name}") or "")


def _secret_place(name: str) -> str:
    """Where the field of a secret lies: elsewhere in each dialog that is opened.

    The browser may send what was typed into a closed one once more, and it must not turn up again.
    """
    closed = tab().forms_closed
    return f"{FORM}_{name}_{closed}" if closed else f"{FORM}_{name}"


def _secret_value(name: str) -> str:
    return str(st.session_state.get(_secret_place(name)) or "")


def _typed(items: list[Field]) -> bool:
    return any(_secret_value(item.name) for item in items)


# --- what it does ---


def _secret(kind: CredentialType) -> dict[str, str]:
    if kind.own_fields:
        rows = st.session_state.get(ROWS, [])
        named = {_value(f"name_{row}").strip(): _secret_value(f"value_{row}") for row in rows}
        return {name: value for name, value in named.items() if name or value}
    return {item.name: _secret_value(item.name) for item in kind.fields}


def _expires_at(before: datetime | None = None) -> datetime | None:
    """The end of the chosen day in UTC; the very time that was set before if it is the same day."""
    chosen: date | None = st.session_state.get(f"{FORM}_expires_at")
    if chosen is None:
        return None
    if before is not None and before.date() == chosen:
        return before
    return datetime.combine(chosen, time(23, 59, 59), UTC)


def _budget(before: Spending | None) -> Budget | None:
    """What was typed; for the project that the budget was for before."""
    dollars: float | None = st.session_state.get(f"{FORM}_budget")
    if dollars is None:
        return None
    project_id = None if before is None else before.budget.project_id
    return Budget(nano(dollars), _value("budget_period") or MONTH, project_id)


def _create(form: _Form, kind: CredentialType) -> None:
    new = NewCredential(
        kind.id,
        _secret(kind),
        label=_value("label"),
        project_id=_value("project_id") or None,
        base_url=_value("base_url") or None,
        expires_at=_expires_at(),
    )
    key = st.session_state[f"{FORM}_key"]

    def create() -> str:
        who = actor()
        made = wiring.services().papita.credentials.create(who, new, idempotency_key=key)
        if kind.probe is not None:
            start_test(who, made.id)
        return "Credential saved."

    form.attempt(create, "Saving …")


def _replace(form: _Form, info: CredentialInfo, kind: CredentialType, *, test_first: bool) -> None:
    secret = _secret(kind)
    given = any(secret.values())
    new = ReplaceCredential(
        label=_value("label"),
        project_id=_value("project_id") or None,
        base_url=_value("base_url") or None,
        expires_at=_expires_at(info.expires_at),
        secret=secret if given else None,
        budget=_budget(info.budget),
    )
    tested = test_first and given and kind.probe is not None

    def replace() -> str:
        vault, who, state = wiring.services().papita.credentials, actor(), tab()
        etag = st.session_state[f"{FORM}_etag"]
        try:
            vault.replace(who, info.id, new, etag=etag, test_first=tested)
        except PreconditionFailed:
            st.session_state[f"{FORM}_etag"] = vault.get(who, info.id).etag
            raise PreconditionFailed(CHANGED) from None
        state.tests.pop(info.id, None)
        return "Credential replaced." if given else "Changes saved."

    form.attempt(replace, "Asking the provider …" if tested else "Saving …")


def expiry_words(expires_at: datetime, now: datetime | None = None) -> str:
    """`expires in 3 days`, `expires today`, `expired on 3 May 2027`."""
    now = now or datetime.now(UTC)
    if expires_at <= now:
        return f"expired {day(expires_at)}"
    days = (expires_at.date() - now.date()).days
    if days == 0:
        return "expires today"
    if days == 1:
        return "expires tomorrow"
    return f"expires in {days} days" if days <= 60 else f"expires {day(expires_at)}"
