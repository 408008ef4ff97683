"""The dialog in which a personal access token is made and shown, once.

The token goes straight from the service to the screen: it is in no widget and no session state, so
that nothing of it is left on the server when the box is closed or the page is left.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import streamlit as st

from papita_core.actors import TOKEN_SCOPES
from papita_core.errors import InvalidInput, PapitaError
from papita_core.users.access_tokens import AccessToken, NewAccessToken
from portal import wiring
from portal.confirm import Question, confirm
from portal.dialogs import close_when_done, dialog
from portal.session import SignedIn, actor, require_user, tab
from portal.texts import N_, said, t, translated
from portal.words import ago, date_format, day, plain, show_field_error

CAPABILITY = "tokens:manage"
SCOPES = {
    "credentials:read": (
        N_("See your credentials"),
        N_("Labels, hints and when they were used. Never a key."),
    ),
    "credentials:write": (
        N_("Change your credentials"),
        N_("Add, test, replace, switch off and delete them."),
    ),
    "projects:launch": (
        N_("Use projects for you"),
        N_("A script may chat with your keys. Making the token is your consent to that."),
    ),
}
DAYS = (7, 30, 90, 365)
DEFAULT_DAYS = 90
FIELDS = ("name", "expires", "date", *(f"scope_{scope}" for scope in TOKEN_SCOPES))
EXAMPLE = """curl -H "Authorization: Bearer $PAPITA_TOKEN" {origin}/api/{path}"""


def show_token(token: AccessToken) -> None:
    """One token of the list: what it may, since when, until when; and taking it back."""
    now = datetime.now(UTC)
    over = token.expires_at is not None and token.expires_at <= now
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        with st.container(gap="xsmall"):
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.markdown(f"**{plain(token.name)}**", width="content")
                if over:
                    st.badge(t("Expired"), color="red", icon=":material/event_busy:")
            made = t("Made {when}.", when=ago(token.created_at))
            st.caption(f"{made} {_end(token, over)} {_last_use(token)}")
            st.markdown(" ".join(f"`{scope}`" for scope in token.scopes))
        if st.button(t("Revoke"), icon=":material/link_off:", key=f"access_tokens_drop_{token.id}"):
            confirm(
                Question(
                    t("Revoke access token"),
                    t(
                        "Revoke **{name}**? Scripts that use it get 401 from this moment, and keys"
                        " that it borrowed are taken back. This cannot be undone.",
                        name=plain(token.name),
                    ),
                    t("Revoke"),
                    lambda: _revoke(token),
                    CAPABILITY,
                )
            )


def _end(token: AccessToken, over: bool) -> str:
    if token.expires_at is None:
        return t("Does not expire.")
    when = day(token.expires_at)
    return t("Expired {when}.", when=when) if over else t("Expires {when}.", when=when)


def _last_use(token: AccessToken) -> str:
    if token.last_used_at is None:
        return t("Never used.")
    return t("Last used {when}.", when=ago(token.last_used_at))


def _revoke(token: AccessToken) -> str:
    wiring.services().papita.access_tokens.revoke(actor(), token.id)
    return t("The token {name} is revoked.", name=token.name)


def show_example() -> None:
    """How a script uses a token."""
    origin = wiring.services().settings.origin
    st.code(EXAMPLE.format(origin=origin, path="credentials"), language=None, wrap_lines=True)


def _clear() -> None:
    for name in FIELDS:
        st.session_state.pop(f"access_token_{name}", None)


def create_token() -> None:
    """Asks for name, scopes and expiry; then shows the token in the place of the questions."""
    tab().dialog_done = False
    _create_token()


@dialog(N_("Create access token"), icon=":material/key_vertical:", on_dismiss=_clear)
def _create_token() -> None:
    user = require_user(CAPABILITY)
    close_when_done()
    questions, answer = st.empty(), st.container()
    # A form, so that one click is one run: what a click elsewhere brings about must not take the
    # token off the screen again.
    with questions.container(), st.form("access_token", border=False):
        name = st.text_input(
            t("Name"),
            key="access_token_name",
            placeholder=t("For example: nightly script"),
            max_chars=200,
        )
        name_problem = st.empty()
        scopes = _ask_scopes(user)
        scopes_problem = st.empty()
        days = _ask_expiry()
        expires_problem = st.empty()
        pressed = st.form_submit_button(
            t("Create"), type="primary", width="stretch", key="access_token_create"
        )
        problem = st.empty()
    if not pressed:
        return
    try:
        made = wiring.services().papita.access_tokens.create(
            user.actor, name=name or "", scopes=scopes, days=days
        )
    except InvalidInput as error:
        for field, where in (
            ("name", name_problem),
            ("scopes", scopes_problem),
            ("expires", expires_problem),
        ):
            if field in error.errors:
                with where:
                    show_field_error(error.errors[field])
    except PapitaError as error:
        problem.error(said(error), icon=":material/error:")
    else:
        questions.empty()
        with answer:
            _show_once(made)


def _ask_scopes(user: SignedIn) -> tuple[str, ...]:
    st.markdown(t("What it may do"), width="content")
    chosen = []
    for scope in TOKEN_SCOPES:
        title, explanation = SCOPES[scope]
        if not user.actor.may(scope):
            continue
        with st.container(gap=None):
            if st.checkbox(translated(title), key=f"access_token_scope_{scope}"):
                chosen.append(scope)
            st.markdown(f"`{scope}` {translated(explanation)}")
    return tuple(chosen)


def _ask_expiry() -> int:
    """Days until the token ends. A date, where one is given, goes before a number of days."""
    days = st.segmented_control(
        t("Expires after so many days"),
        DAYS,
        default=DEFAULT_DAYS,
        required=True,
        key="access_token_expires",
        width="stretch",
    )
    today = datetime.now(UTC).date()
    until = st.date_input(
        t("Or on a date (UTC)"),
        value=None,
        format=date_format(),
        min_value=today + timedelta(days=1),
        max_value=today + timedelta(days=3650),
        key="access_token_date",
    )
    return (until - today).days if isinstance(until, date) else days or DEFAULT_DAYS


def _show_once(made: NewAccessToken) -> None:
    st.markdown(t("**{name}** is made. Copy the token now:", name=plain(made.info.name)))
    st.code(made.token, language=None, wrap_lines=True)
    st.warning(
        t(
            "It is not shown again: Papita keeps only a fingerprint of it. Put it where you keep"
            " passwords, not into a script."
        ),
        icon=":material/visibility_off:",
    )
    st.markdown(t("To try it, put it into the variable `PAPITA_TOKEN` of a terminal, then:"))
    show_example()
    st.button(t("Done"), type="primary", width="stretch", key="access_token_done", on_click=_close)


def _close() -> None:
    _clear()
    tab().dialog_done = True
