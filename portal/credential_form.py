"""The dialogs in which a credential is added, replaced and deleted, for every page that needs them.

A key that was saved is cleared from the tab at once; one that was refused stays in its field, so
that nothing has to be typed again.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import streamlit as st

from papita_core.credential_types import CREDENTIAL_TYPES, CredentialType
from papita_core.errors import InvalidInput, PapitaError
from papita_core.vault.service import CredentialInfo, NewCredential, ReplaceCredential
from portal import wiring
from portal.session import actor, require_user, tab
from portal.words import plain, show_field_error

FORM = "credential"
FIELDS = ("label", "type", "base_url", "key", "api_key")


def _clear() -> None:
    tab().errors.pop(FORM, None)
    for name in FIELDS:
        st.session_state.pop(f"{FORM}_{name}", None)


@st.dialog("Add credential", icon=":material/key:", on_dismiss=_clear)
def add_credential() -> None:
    """A new credential. The kinds and their fields come from `CREDENTIAL_TYPES`."""
    _close_when_done()
    st.session_state.setdefault(f"{FORM}_key", secrets.token_hex(16))
    with st.form("add_credential", border=False):
        _text("Label", "label", placeholder="For example: personal", max_chars=200)
        kind = _type_field(None)
        _key_field(kind, placeholder="sk-…")
        _text("Base URL", "base_url", kind.default_base_url, autocomplete="off")
        _save_button(_create)
    st.caption(
        f"[Where to get a key]({kind.key_url}). It is stored encrypted and never shown again."
    )


@st.dialog("Replace credential", icon=":material/key:", on_dismiss=_clear)
def replace_credential(info: CredentialInfo) -> None:
    """New values for a credential; an empty key keeps the one that is there."""
    _close_when_done()
    with st.form("replace_credential", border=False):
        _text("Label", "label", info.label, max_chars=200)
        kind = _type_field(info)
        _key_field(kind, placeholder=f"Leave empty to keep {info.hint}")
        _text("Base URL", "base_url", info.base_url, autocomplete="off")
        _save_button(_replace, info)


@st.dialog("Delete credential", icon=":material/delete:")
def delete_credential(info: CredentialInfo) -> None:
    """Asks, then deletes."""
    _close_when_done()
    st.markdown(
        f"Delete **{plain(info.label)}** ({info.hint})? Projects that use it stop working"
        " until there is another one. This cannot be undone."
    )
    _problem("form")
    with st.container(horizontal=True, horizontal_alignment="right"):
        st.button("Cancel", key=f"{FORM}_cancel", on_click=_done)
        st.button("Delete", key=f"{FORM}_delete", type="primary", on_click=_delete, args=(info,))


def _close_when_done() -> None:
    require_user("credentials:write")
    if tab().dialog_done:
        tab().dialog_done = False
        st.rerun(scope="app")


def _done(notice: str | None = None) -> None:
    _clear()
    tab().dialog_done = True
    if notice:
        tab().notice = notice


def _errors() -> Mapping[str, str]:
    return tab().errors.get(FORM, {})


def _problem(*names: str) -> None:
    for name in names:
        if name in _errors():
            show_field_error(_errors()[name])


def _text(label: str, name: str, value: str = "", **options: Any) -> None:
    st.session_state.setdefault(f"{FORM}_{name}", value)
    st.text_input(label, key=f"{FORM}_{name}", **options)
    _problem({"base_url": "baseUrl"}.get(name, name))


def _type_field(info: CredentialInfo | None) -> CredentialType:
    kinds = list(CREDENTIAL_TYPES)
    chosen = st.selectbox(
        "Type",
        kinds,
        index=kinds.index(info.credential_type) if info else 0,
        format_func=lambda kind: CREDENTIAL_TYPES[kind].title,
        key=f"{FORM}_type",
        disabled=info is not None,
    )
    _problem("credentialType")
    return CREDENTIAL_TYPES[chosen]


def _key_field(kind: CredentialType, placeholder: str) -> None:
    for item in kind.fields:
        st.text_input(
            item.label,
            key=f"{FORM}_{item.name}",
            type="password",
            autocomplete="off",
            placeholder=placeholder,
        )
        _problem(item.name)
    _problem("credentials")


def _save_button(callback: Any, *args: Any) -> None:
    _problem("form")
    st.form_submit_button("Save", type="primary", width="stretch", on_click=callback, args=args)


def _value(name: str) -> str:
    return str(st.session_state.get(f"{FORM}_{name}") or "")


def _secret(kind: CredentialType) -> dict[str, str]:
    return {item.name: _value(item.name) for item in kind.fields}


def _create() -> None:
    kind = CREDENTIAL_TYPES[_value("type")]
    new = NewCredential(kind.id, _secret(kind), label=_value("label"), base_url=_value("base_url"))
    _attempt(
        lambda: wiring.services().papita.credentials.create(
            actor(), new, idempotency_key=_value("key")
        ),
        "Credential saved.",
    )


def _replace(info: CredentialInfo) -> None:
    kind = CREDENTIAL_TYPES[info.credential_type]
    secret = _secret(kind)
    new = ReplaceCredential(
        label=_value("label"),
        project_id=info.project_id,
        base_url=_value("base_url"),
        expires_at=info.expires_at,
        secret=secret if any(secret.values()) else None,
    )
    _attempt(
        lambda: wiring.services().papita.credentials.replace(actor(), info.id, new, etag=info.etag),
        "Credential replaced.",
    )


def _delete(info: CredentialInfo) -> None:
    _attempt(
        lambda: wiring.services().papita.credentials.delete(actor(), info.id, etag=info.etag),
        "Credential deleted.",
    )


def _attempt(action: Any, notice: str) -> None:
    try:
        action()
    except InvalidInput as error:
        tab().errors[FORM] = error.errors
        # The same key with another body would be refused as a different request.
        st.session_state[f"{FORM}_key"] = secrets.token_hex(16)
    except PapitaError as error:
        tab().errors[FORM] = {"form": str(error)}
    else:
        tab().models_until = 0.0
        _done(notice)
