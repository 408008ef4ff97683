"""The dialogs in which a credential is added, replaced and deleted, for every page that needs them.

A key that was saved is cleared from the tab at once; one that was refused stays in its field until
the dialog closes, so that nothing has to be typed again. The fields come from `CREDENTIAL_TYPES`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from papita_core.credential_types import CREDENTIAL_TYPES, CredentialType, Field, doubt, meets
from papita_core.errors import InvalidInput, PapitaError, PreconditionFailed, TestFailed
from papita_core.usage.budgets import DAY, MONTH, PERIODS, Budget, Spending, nano, usd
from papita_core.vault.service import CredentialInfo, NewCredential, ReplaceCredential
from portal import wiring
from portal.confirm import Question, confirm
from portal.credential_tests import start_test
from portal.dialogs import close_when_done, dialog
from portal.session import actor, remembered, require_user, tab
from portal.texts import N_, said, t, tn, translated
from portal.words import AT_ONCE, date_format, day, local, plain, show_field_error, time_zone

FORM = "credential"
ROWS = f"{FORM}_rows"
ANYWAY = "anyway"  # a problem of this name offers to go on without the test
FIELD_OF = {"baseUrl": "base_url", "projectId": "project_id", "expiresAt": "expires_at"}
NEVER_SHOWN = N_(
    "It is tested when you save it, stored encrypted, and never shown again, neither to you nor to"
    " an administrator."
)
TESTED_FIRST = N_(
    "A new key is tested first. The old one stays in force until the new one has passed."
)
ALL_THE_SAME = N_("You can save it all the same.")
EACH = {DAY: N_("Each day"), MONTH: N_("Each month")}
SHORT_DOUBT = 75  # characters, about one line
CHANGED = N_(
    "This credential was changed meanwhile, in another tab or by a program. Nothing was saved. Look"
    " at what is there now, or save again to put yours in its place."
)


@dataclass(slots=True)
class _After:
    """What is done once the dialog that is open has saved something."""

    call: Callable[[], None] | None = None


def clear() -> None:
    """Forgets what was typed, keys first of all."""
    remembered(_After).call = None
    tab().errors.pop(FORM, None)
    tab().forms_closed += 1
    for name in list(st.session_state):
        if str(name).startswith(f"{FORM}_"):
            del st.session_state[name]


@dialog(N_("Add credential"), icon=":material/key:", on_dismiss=clear)
def add_credential(then: Callable[[], None] | None = None) -> None:
    """A new credential; its first test begins when it is stored. `then` is called after that."""
    remembered(_After).call = then
    _close_when_done()
    st.session_state.setdefault(f"{FORM}_key", secrets.token_hex(16))
    form = _Form()
    form.label("", placeholder=t("For example: personal"))
    kind = form.kind()
    form.secret(kind)
    form.base_url(kind, kind.default_base_url or "")
    form.use(kind, None, None)
    if form.save():
        _create(form, kind)


@dialog(N_("Replace credential"), icon=":material/key:", on_dismiss=clear)
def replace_credential(info: CredentialInfo, then: Callable[[], None] | None = None) -> None:
    """New values for a credential. An empty key keeps the one that is there; another one takes
    its place only after it has passed its test, unless the user says otherwise. `then` is called
    once it is saved.
    """
    remembered(_After).call = then
    _close_when_done()
    st.session_state.setdefault(f"{FORM}_etag", info.etag)
    kind = CREDENTIAL_TYPES[info.credential_type]
    form = _Form()
    title = translated(kind.title)
    st.markdown(f"{title} `{info.hint}`" if info.hint else title)
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
    text = t(
        "Delete **{label}** ({hint})? Projects that use it stop working until there is another"
        " one. This cannot be undone.",
        label=plain(info.label),
        hint=info.hint,
    )
    if info.shared != "nobody":
        text += " " + t("Those you share it with lose it, too.")

    def delete() -> str:
        state = tab()
        wiring.services().papita.credentials.delete(actor(), info.id, etag=info.etag)
        state.models_until = 0.0
        return t("Credential deleted.")

    confirm(
        Question(
            t("Delete credential"),
            text,
            t("Delete"),
            delete,
            "credentials:write",
            icon=":material/delete:",
        )
    )


def _close_when_done() -> None:
    require_user("credentials:write")
    close_when_done(_finished)


def _finished() -> None:
    tab().models_until = 0.0
    then = remembered(_After).call
    clear()
    if then is not None:
        then()


# --- the form ---


class _Form:
    """The fields in the order in which they are asked for, and below each what is wrong with it.

    A form of Streamlit's own it is not: the fields have to change with the type at once.
    """

    def __init__(self) -> None:
        self._slots: dict[str, DeltaGenerator] = {}

    def label(self, value: str, **options: Any) -> None:
        self._text(t("Label"), "label", value, autocomplete="off", **options)

    def kind(self) -> CredentialType:
        """The type, what it is for, and where one gets a key."""
        chosen = st.selectbox(
            t("Type"),
            list(CREDENTIAL_TYPES),
            format_func=lambda kind: translated(CREDENTIAL_TYPES[kind].title),
            key=_place("type"),
            on_change=_type_changed,
        )
        kind = CREDENTIAL_TYPES[chosen]
        link = f" [{t('Get a key')}]({kind.key_url})" if kind.key_url else ""
        st.caption(plain(translated(kind.summary)) + link)
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
                with st.expander(t("More fields"), expanded=_typed(optional)):
                    for item in optional:
                        self._secret_field(item)
        self._slot("credentials")

    def base_url(self, kind: CredentialType, value: str) -> None:
        if kind.takes_base_url:
            # What was typed for another provider's address would be wrong for this one.
            self._text(
                *(t("Base URL"), "base_url", value),
                place=_place(f"base_url_{kind.id}"),
                placeholder="https://",
                autocomplete="off",
            )

    def use(
        self, kind: CredentialType, project_id: str | None, expires_at: datetime | None
    ) -> None:
        """For which project, and until when."""
        projects = {"": t("All projects")} | {
            project.id: project.title
            for project in wiring.services().papita.projects.catalogue()
            if project.installed and any(meets(kind.id, it) for it in project.credential_types)
        }
        left, right = st.columns(2)
        with left:
            options = list(projects)
            st.selectbox(
                t("Use for"),
                options,
                index=options.index(project_id) if project_id in projects else 0,
                format_func=lambda project: projects[project],
                key=_place("project_id"),
                on_change="ignore",
            )
            self._slot("project_id")
        with right:
            today = datetime.now(UTC).date()
            until = local(expires_at).date() if expires_at else None
            # By way of the state and not as a default: only so can it be taken away again.
            st.session_state.setdefault(
                _place("expires_at"), until if until and until >= today else None
            )
            st.date_input(
                t("Expires"),
                value=None,
                format=date_format(),
                min_value=today,
                max_value=today + timedelta(days=3650),
                key=_place("expires_at"),
                on_change="ignore",
            )
            self._slot("expires_at")

    def budget(self, standing: Spending | None) -> None:
        """How much may be spent with it, and in which time."""
        left, right = st.columns(2)
        with left:
            limit = None if standing is None else usd(standing.budget.limit_nano)
            st.session_state.setdefault(_place("budget"), limit)
            st.number_input(
                t("Budget in US dollars"),
                min_value=0.01,
                max_value=1_000_000.0,
                value=None,
                step=1.0,
                placeholder=t("None"),
                key=_place("budget"),
                on_change="ignore",
            )
            self._slot("budget")
        with right:
            options = list(PERIODS)
            st.selectbox(
                t("Budget for"),
                options,
                index=options.index(MONTH if standing is None else standing.budget.period),
                format_func=lambda period: translated(EACH[period]),
                key=_place("budget_period"),
                on_change="ignore",
            )

    def save(self) -> bool:
        self._slot("form")
        self._slot(ANYWAY)
        return st.button(t("Save"), key=f"{FORM}_save", type="primary", width="stretch")

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
            state.errors[FORM] = {ANYWAY: said(error)}
        except PapitaError as error:
            state.errors[FORM] = {"form": said(error)}
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
                st.error(plain(translated(sentence)), icon=":material/error:")
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
                t("Replace anyway"),
                key=f"{FORM}_anyway",
                icon=":material/warning:",
                width="stretch",
                help=t("Puts the new key in place although its test failed."),
            )

    def _text(
        self, label: str, name: str, value: str = "", *, place: str | None = None, **options: Any
    ) -> None:
        key = place or _place(name)
        st.text_input(label, value=value, key=key, on_change="ignore", **options)
        self._slot(name)

    def _key(self, kind: CredentialType, item: Field, instead_of: str | None) -> None:
        # The same number of lines with a doubt and without: nothing moves while one clicks on.
        with st.container(gap="xxsmall"):
            st.text_input(
                translated(item.label),
                key=_place(item.name),
                type="password",
                autocomplete="off",
                placeholder=_placeholder(item, instead_of),
                live=AT_ONCE,
            )
            doubtful = doubt(kind, _value(item.name).strip())
            if doubtful:
                words = translated(doubtful)
                if len(words) < SHORT_DOUBT:
                    words = f"{words} {translated(ALL_THE_SAME)}"
                st.caption(f":orange[:material/warning: {plain(words)}]")
            else:
                st.caption(translated(NEVER_SHOWN if instead_of is None else TESTED_FIRST))
        self._slot(item.name)

    def _secret_field(self, item: Field) -> None:
        st.text_input(
            translated(item.label),
            key=_place(item.name),
            type="password" if item.secret else "default",
            autocomplete="off",
            on_change="ignore",
            live=AT_ONCE,
        )
        self._slot(item.name)

    def _own_fields(self, instead_of: str | None) -> None:
        rows: list[int] = st.session_state.setdefault(ROWS, [0])
        for row in rows:
            with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
                st.text_input(
                    t("Field name"),
                    key=_place(f"name_{row}"),
                    placeholder="client_id",
                    autocomplete="off",
                    on_change="ignore",
                    width=160,
                )
                st.text_input(
                    t("Value"),
                    key=_place(f"value_{row}"),
                    type="password",
                    autocomplete="off",
                    on_change="ignore",
                    live=AT_ONCE,
                )
                if len(rows) > 1:
                    st.button(
                        ":material/close:",
                        key=f"{FORM}_drop_{row}",
                        help=t("Remove this field"),
                        on_click=_drop_row,
                        args=(row,),
                    )
        st.button(
            t("Add a field"),
            key=f"{FORM}_more",
            icon=":material/add:",
            type="tertiary",
            on_click=_more,
        )
        if instead_of is not None:
            st.caption(
                t("Leave all fields empty to keep what is stored. New ones replace all of it.")
            )


def _type_changed() -> None:
    # What was wrong with the fields of another type.
    tab().errors.pop(FORM, None)


def _more() -> None:
    rows = st.session_state[ROWS]
    st.session_state[ROWS] = [*rows, max(rows) + 1]


def _drop_row(row: int) -> None:
    st.session_state[ROWS] = [it for it in st.session_state[ROWS] if it != row]


def _placeholder(item: Field, instead_of: str | None) -> str | None:
    if instead_of is not None:
        return t("Leave empty to keep {hint}", hint=instead_of)
    return None if item.required else t("Optional")


def _errors() -> Mapping[str, str]:
    return tab().errors.get(FORM, {})


def _value(name: str) -> str:
    return str(st.session_state.get(_place(name)) or "")


def _place(name: str) -> str:
    """Where a field lies: elsewhere in each dialog that is opened.

    The browser may send what stood in a closed one once more, and it must not turn up again.
    """
    closed = tab().forms_closed
    return f"{FORM}_{name}_{closed}" if closed else f"{FORM}_{name}"


def _typed(items: list[Field]) -> bool:
    return any(_value(item.name) for item in items)


# --- what it does ---


def _secret(kind: CredentialType) -> dict[str, str]:
    if kind.own_fields:
        rows = st.session_state.get(ROWS, [])
        named = {_value(f"name_{row}").strip(): _value(f"value_{row}") for row in rows}
        return {name: value for name, value in named.items() if name or value}
    return {item.name: _value(item.name) for item in kind.fields}


def _expires_at(before: datetime | None = None) -> datetime | None:
    """The end of the chosen day where the user is; the very time that was set before if that is on
    the same day.
    """
    chosen: date | None = st.session_state.get(_place("expires_at"))
    if chosen is None:
        return None
    if before is not None and local(before).date() == chosen:
        return before
    return datetime.combine(chosen, time(23, 59, 59), time_zone())


def _budget(before: Spending | None) -> Budget | None:
    """What was typed; for the project that the budget was for before."""
    dollars: float | None = st.session_state.get(_place("budget"))
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
        base_url=_value(f"base_url_{kind.id}") or None,
        expires_at=_expires_at(),
    )
    key = st.session_state[f"{FORM}_key"]

    def create() -> str:
        who = actor()
        made = wiring.services().papita.credentials.create(who, new, idempotency_key=key)
        if kind.probe is not None:
            start_test(who, made.id)
        return t("Credential saved.")

    form.attempt(create, t("Saving …"))


def _replace(form: _Form, info: CredentialInfo, kind: CredentialType, *, test_first: bool) -> None:
    secret = _secret(kind)
    given = any(secret.values())
    new = ReplaceCredential(
        label=_value("label"),
        project_id=_value("project_id") or None,
        base_url=_value(f"base_url_{kind.id}") or None,
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
        return t("Credential replaced.") if given else t("Changes saved.")

    form.attempt(replace, t("Asking the provider …") if tested else t("Saving …"))


def expiry_sentence(expires_at: datetime, now: datetime | None = None) -> str:
    """`Expires in 3 days.`, `Expires today.`, `Expired on 3 May 2027.`"""
    now = now or datetime.now(UTC)
    if expires_at <= now:
        return t("Expired {when}.", when=day(expires_at))
    days = (expires_at.date() - now.date()).days
    if days == 0:
        return t("Expires today.")
    if days == 1:
        return t("Expires tomorrow.")
    if days > 60:
        return t("Expires {when}.", when=day(expires_at))
    return tn("Expires in {count} day.", "Expires in {count} days.", days)
