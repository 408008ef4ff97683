"""Sign-in and sign-out; the only importer of streamlit_authenticator. What strangers see of it is
in `portal.door`.

The library gives the flow and its state; users, passwords and sessions are Papita's own. What
the browser holds is a random handle in a HttpOnly cookie, set by `/auth/session`, never by script.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import streamlit as st
from streamlit.navigation.page import StreamlitPage
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit_authenticator import Authenticate
from streamlit_authenticator.controllers import AuthenticationController
from streamlit_authenticator.models import AuthenticationModel
from streamlit_authenticator.utilities import Encryptor, Validator

from papita_core.app import Papita
from papita_core.errors import PapitaError, Unauthenticated
from papita_core.users.service import User
from portal import identity_providers, wiring
from portal.session import (
    CookieErrand,
    SecondStep,
    SignedIn,
    address,
    belongs_to,
    current,
    forget,
    looked,
    tab,
)
from portal.texts import N_, language, said, t, translated

SECOND_STEP_SECONDS = 300.0
KEEP_HELP = N_("Otherwise you are signed out when you close the browser, and after some hours.")
KEEP = "door_keep"
LIBRARY_STATE = ("name", "authentication_status", "username", "email", "roles", "logout")

_COOKIE_JS = """
const done = new Set()

export default function ({ data: [data] }) {
  if (data?.lang) document.documentElement.lang = data.lang
  if (!data?.number || done.has(data.number)) return
  done.add(data.number)
  if (data.forget) {
    for (const key of Object.keys(localStorage)) {
      if (key.startsWith("papita_draft:")) localStorage.removeItem(key)
    }
  }
  globalThis.papitaErrand = fetch("/auth/session", {
    method: data.ticket ? "POST" : "DELETE",
    credentials: "same-origin",
    cache: "no-store",
    keepalive: true,
    headers: { "Content-Type": "application/json", "X-Papita-Portal": "1" },
    body: data.ticket ? JSON.stringify({ ticket: data.ticket }) : undefined,
  }).catch(() => {})
}
"""


_COOKIE = st.components.v2.component("papita_session_cookie", js=_COOKIE_JS)


class _Users(Mapping[str, dict[str, Any]]):
    """The library's dict of all users, as a view that reads one at a time, for one run of a script.

    A fresh dict each time, since the library writes into what it gets.
    """

    def __init__(self, papita: Papita) -> None:
        self._papita = papita
        # The library asks for the same one several times in a row.
        self._read: User | None = None

    def __getitem__(self, username: str) -> dict[str, Any]:
        user = self._read
        if user is None or user.username != username:
            user = self._read = self._papita.users.by_username(username)
        if user is None:
            raise KeyError(username)
        return {
            "name": user.display_name or user.username,
            "email": user.email,
            "roles": [user.role],
            "password": "",
            "logged_in": False,
        }

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return self._papita.users.count()


class _SessionCookie:
    """The library's cookie controller, over sessions that live on the server."""

    def __init__(self, papita: Papita) -> None:
        self._papita = papita

    def get_cookie(self) -> dict[str, Any] | None:
        """The session of this tab, else the one of the cookie that the tab was opened with."""
        state = tab()
        if state.session_id is not None:
            session = self._papita.sessions.by_id(state.session_id)
        else:
            handle = st.context.cookies.get(wiring.services().settings.cookie_name)
            session = self._papita.sessions.by_handle(handle) if handle else None
            state.came_with = None if session is None else session.handle_hash
        if session is None:
            return None
        state.session_id = session.id
        belongs_to(session.user_id)
        looked(session, seen=True)
        return {"username": session.username}

    def set_cookie(self, **how: Any) -> None:
        user = self._papita.users.by_username(st.session_state["username"])
        if user is None:
            return
        new = self._papita.sessions.start(
            user.id,
            address=address(),
            user_agent=st.context.headers.get("User-Agent", ""),
            **how,
        )
        belongs_to(user.id)
        state = tab()
        state.session_id, state.came_with = new.session.id, None
        state.errand = CookieErrand(secrets.token_hex(8), new.ticket)

    def delete_cookie(self) -> None:
        """Ends the session first; a cookie that outlives it opens nothing."""
        state = tab()
        if state.session_id is not None:
            self._papita.sessions.end(state.session_id)
        self.forget(drafts=True)

    def forget(self, *, drafts: bool = False) -> None:
        """`drafts`: those that the browser keeps are forgotten as well."""
        tab().session_id = tab().came_with = None
        tab().errand = CookieErrand(secrets.token_hex(8), drafts=drafts)


class _Model(AuthenticationModel):  # type: ignore[misc]
    def __init__(self, papita: Papita) -> None:
        # Not the library's own start: it wants all users as one dict, hashes what it takes for
        # clear passwords, and can talk to its author's server.
        self._papita = papita
        self.api_key = self.path = self.config = self.cloud_model = None
        self.credentials = {"usernames": _Users(papita)}
        self.validator = Validator()
        self.secret_key, self.encryptor = _throw_away_key()
        self.refusal = ""
        self.user: User | None = None
        for name in LIBRARY_STATE:
            st.session_state.setdefault(name, None)

    def check_credentials(self, username: str, password: str) -> bool:
        """Whether the password is right: `user` is whose it is, else `refusal` says why not."""
        try:
            self.user = self._papita.sign_in.authenticate(username, password, address=address())
        except PapitaError as error:
            self.refusal = said(error)
        return self.user is not None

    def _record_failed_login_attempts(self, username: str, reset: bool = False) -> None:
        """Papita counts them itself, and its counters time out."""


class _Controller(AuthenticationController):  # type: ignore[misc]
    def __init__(self, papita: Papita) -> None:
        self.authentication_model = _Model(papita)
        self.validator = self.authentication_model.validator
        self.secret_key = self.authentication_model.secret_key
        self.encryptor = self.authentication_model.encryptor


class _Authenticator(Authenticate):  # type: ignore[misc]
    def __init__(self, papita: Papita) -> None:
        self._papita = papita
        self.api_key = self.path = None
        self.attrs = {"login_sleep_time": 0}
        self.cookie_controller = _SessionCookie(papita)
        self.authentication_controller = _Controller(papita)
        self.secret_key = self.authentication_controller.secret_key
        self.encryptor = self.authentication_controller.encryptor

    def restore(self) -> None:
        """Brings the library's state in line with the session on the server."""
        token = self.cookie_controller.get_cookie()
        signed_in = bool(st.session_state["authentication_status"])
        if token is not None and st.session_state["username"] != token["username"]:
            self.authentication_controller.login(token=token)
        elif token is None and (signed_in or tab().session_id is not None):
            self.authentication_controller.logout()
            self.cookie_controller.forget()

    def login(self, below: Callable[[bool], None]) -> None:
        """The library's form, but one that password managers may fill in.

        It hard-codes `autocomplete="off"`, hence fields of our own.
        """
        with st.form("Login", border=False):
            username = st.text_input(
                t("Username"),
                autocomplete="username",
                max_chars=320,
                placeholder=t("Name or e-mail"),
            )
            password = st.text_input(
                t("Password"), type="password", autocomplete="current-password", max_chars=1024
            )
            remember = st.checkbox(t("Keep me signed in"), help=translated(KEEP_HELP), key=KEEP)
            problem = st.container()
            pressed = st.form_submit_button(t("Log in"), type="primary", width="stretch")
            below(remember)
        if not pressed:
            return
        if not username.strip() or not password:
            problem.error(t("Enter your user name and your password."), icon=":material/error:")
            return
        model = self.authentication_controller.authentication_model
        model.check_credentials(username, password)
        user = model.user
        if user is None:
            problem.error(model.refusal, icon=":material/error:")
            return
        # The password is one factor of those who have more: nothing has begun yet.
        if not owes_second_step(user, remember=remember):
            self.sign_in(user, remember=remember)
        st.rerun()

    def sign_in(self, user: User, **how: Any) -> None:
        tab().second_step = None
        forget("portal.door")
        self.authentication_controller.login(token={"username": user.username})
        self.cookie_controller.set_cookie(**how)

    def sign_out(self) -> None:
        self.cookie_controller.delete_cookie()
        self.authentication_controller.logout()


def _throw_away_key() -> tuple[str, Encryptor]:
    """For the library's captchas and codes, which are not used; nothing outlives the run."""
    key = secrets.token_hex(16)
    return key, Encryptor(key)


def restore() -> SignedIn | None:
    """Who is signed in, on every run: from the tab, else from the cookie. Draws nothing."""
    _run_errand()
    _Authenticator(wiring.services().papita).restore()
    return current()


def _run_errand() -> None:
    """Always mounted, so that it runs its errands without a run of its own."""
    errand = tab().errand
    if errand is not None and errand.expired:
        errand = tab().errand = None
    _COOKIE(
        key="papita_cookie",
        # Streamlit calls every page English, and a screen reader would read it so.
        data=[
            {"lang": language()}
            if errand is None
            else {
                "lang": language(),
                "number": errand.number,
                "ticket": errand.ticket,
                "forget": errand.drafts,
            }
        ],
        height=0,
    )


def show_form(below: Callable[[bool], None]) -> None:
    """The library's sign-in form. `below` draws other ways in at its end; it is told whether the
    user wants to be kept signed in.
    """
    _Authenticator(wiring.services().papita).login(below)


def finish(user: User, **how: Any) -> None:
    """Signs in a user who has proved who they are; `how` is what `SessionService.start` takes."""
    _Authenticator(wiring.services().papita).sign_in(user, **how)


def owes_second_step(user: User, *, method: str = "password", remember: bool = True) -> bool:
    """Whether this user, who has shown the password or a link, has a second factor to show as well.
    If so the door asks for it, and `finish` comes after that.
    """
    kinds = wiring.services().papita.factors.of(user.id)
    if not kinds:
        return False
    until = time.monotonic() + SECOND_STEP_SECONDS
    tab().second_step = SecondStep(user.id, user.username, kinds, remember, until, method)
    return True


def prove(*, second_factor: str | None = None) -> None:
    """Notes that the user of this tab has just proved who they are, and renews the cookie."""
    state = tab()
    if state.session_id is None:
        raise Unauthenticated
    sessions = wiring.services().papita.sessions
    ticket = sessions.prove(state.session_id, second_factor=second_factor)
    state.errand = CookieErrand(secrets.token_hex(8), ticket)
    state.look = state.came_with = None


def sign_out() -> None:
    """Ends the session of this tab and takes its cookie away, for callbacks; then the browser goes
    to the provider at which the session began, if that is to hear of it.
    """
    papita, session_id = wiring.services().papita, tab().session_id
    issuer = None if session_id is None else papita.sessions.issuer_of(session_id)
    _Authenticator(papita).sign_out()
    if issuer is not None:
        identity_providers.go_to_log_out(issuer)


def log_out_button() -> None:
    """`Log out`, wherever it is called."""
    st.button(
        t("Log out"),
        icon=":material/logout:",
        width="stretch",
        key="log_out",
        on_click=sign_out,
    )


def watch_session(page: StreamlitPage) -> None:
    """Shows an idle tab the door when its session has ended elsewhere."""
    tab().page_hash = _page_hash()
    _watch(page)


@st.fragment(run_every=5)
def _watch(page: StreamlitPage) -> None:
    if current(seen=False) is None:
        st.rerun(scope="app")
    elif _page_hash() != tab().page_hash:
        # The browser sent this tick from the page before, while the tab was on its way to this
        # one; it makes the browser take the new page's elements away. So draw them again.
        st.switch_page(page, query_params=st.query_params.to_dict())


def _page_hash() -> str:
    context = get_script_run_ctx()
    return "" if context is None else context.page_script_hash
