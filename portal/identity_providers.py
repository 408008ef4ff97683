"""The way to an identity provider and back, as pages see it.

A page says where to go and draws `show_way` once; the browser then leaves the portal in the same
tab. It comes back with a code in the address, for which `arrived` has a sentence.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import streamlit as st

from papita_core.users.oidc.attempts import Purpose
from papita_core.users.oidc.providers import Provider
from portal import wiring
from portal.oidc_routes import LINKED, PROBLEM, PROVED
from portal.session import SignedIn, remembered, tab
from portal.texts import N_, t, translated
from portal.words import plain

# What can become of it. `failed` stands for all that has no sentence of its own.
MESSAGES: Final = {
    "approval": N_(
        "Your account is made. An administrator has to approve it before you can log in."
    ),
    "declined": N_("You did not log in at the provider. Try again, or log in another way."),
    "disabled": N_("This account is switched off. Ask an administrator if you need it."),
    "email-taken": N_(
        "There is an account with your e-mail already. Log in to it another way, then link this"
        " provider on your profile."
    ),
    "failed": N_("Logging in at the provider did not work. Try again, or log in another way."),
    "linked-elsewhere": N_("That account at the provider belongs to another user here."),
    "misconfigured": N_(
        "This provider is not set up rightly. Log in another way, and tell your administrator: the"
        " log of the portal says what is wrong."
    ),
    "no-account": N_("There is no account for you here. Ask an administrator for an invitation."),
    "no-role": N_("None of your groups at the provider may use Papita. Ask an administrator."),
    "not-verified": N_(
        "What came back from the provider could not be verified, so nothing was done. Start again;"
        " if it stays, tell your administrator."
    ),
    "other-person": N_("That was another account at the provider than the one you use here."),
    "sealed": N_(
        "The vault is sealed, so no account can be made or linked. Tell your administrator."
    ),
    "session-changed": N_("You were logged out meanwhile. Log in and try again."),
    "stale": N_("This attempt to log in was used already, or it took too long. Start again."),
    "too-many": N_("Too many attempts. Try again in a few minutes, or log in another way."),
    "too-old": N_("The provider did not ask who you are again. Confirm it another way."),
    "unknown-provider": N_("There is no such provider any more. Log in another way."),
    "unreachable": N_(
        "The provider does not answer. Log in another way, or try again in a minute."
    ),
    LINKED: N_("Linked: from now on you can log in with that account."),
    PROVED: N_("Confirmed. You can go on now."),
}

_JS: Final = """
// One for the page, however often this is mounted.
const done = (globalThis.papitaWays ??= new Set())

export default function ({ data: [data] }) {
  if (!data?.number || done.has(data.number)) return
  done.add(data.number)
  const go = address => window.location.assign(address)
  if (data.address) return go(data.address)
  fetch("/auth/oidc/begin", {
    method: "POST",
    credentials: "same-origin",
    cache: "no-store",
    headers: { "Content-Type": "application/json", "X-Papita-Portal": "1" },
    body: JSON.stringify(data.begin),
  })
    .then(answer => (answer.ok ? answer.json() : Promise.reject()))
    .then(answer => go(answer.location))
    .catch(() => go(data.otherwise))
}
"""
_WAY = st.components.v2.component("papita_way_to_provider", js=_JS)


@dataclass(slots=True)
class Way:
    """Where this tab is about to go. `number` keeps it from going there twice."""

    number: str = ""
    address: str = ""
    begin: dict[str, str] | None = None


def providers() -> list[Provider]:
    """Those that the portal knows, in the order of their file."""
    return list(wiring.services().papita.oidc.providers.values())


def go_to_sign_in(provider: str, *, remember: bool) -> None:
    """Leaves for the provider, to come back signed in to the page that was asked for."""
    way = remembered(Way)
    query = {"provider": provider, "next": here(), "remember": "1" if remember else "0"}
    way.number, way.begin = secrets.token_hex(8), None
    way.address = f"/auth/oidc/login?{urlencode(query)}"


def go_to_log_out(issuer: str | None) -> None:
    """Leaves for the provider at which a session began, to end it there as well, if that is so."""
    address = wiring.services().papita.oidc.logout_address(issuer)
    if address is not None:
        way = remembered(Way)
        way.number, way.address, way.begin = secrets.token_hex(8), address, None


def go_to(provider: str, purpose: Purpose) -> None:
    """Leaves for the provider to link an account there, or to prove who sits here."""
    way = remembered(Way)
    way.number, way.address = secrets.token_hex(8), ""
    way.begin = {"provider": provider, "purpose": purpose, "next": here()}


def offer_proof(user: SignedIn) -> bool:
    """Buttons of the dialog that asks who sits there, for providers by which this user signs in;
    whether there are any. The page has to be asked again for what it was to do.
    """
    linked = wiring.services().papita.oidc.identities(user.actor)
    names = {identity.provider for identity in linked}
    offered = [provider for provider in providers() if provider.name in names]
    if offered:
        st.caption(t("You come back to this page from there, and can then go on."))
    for provider in offered:
        if st.button(
            t("Confirm with {title}", title=plain(provider.title)),
            key=f"proof_provider_{provider.name}",
            icon=":material/login:",
            width="stretch",
        ):
            go_to(provider.name, "proof")
    if offered:
        show_way("dialog")
    return bool(offered)


def show_way(key: str = "page") -> None:
    """Draws nothing; takes the browser along, once it is to go somewhere. `key` sets what is on a
    page apart from what is in a dialog over it.
    """
    way = remembered(Way)
    data: dict[str, Any] = {}
    if way.number:
        data = {
            "number": way.number,
            "address": way.address,
            "begin": way.begin,
            "otherwise": f"{urlsplit(here()).path}?{urlencode({PROBLEM: 'failed'})}",
        }
    _WAY(key=f"papita_way_{key}", data=[data], height=0)


def here() -> str:
    """The address of this page without the portal's own, with its query."""
    path = urlsplit(st.context.url or "").path or "/"
    pairs = [(name, value) for name, value in st.query_params.to_dict().items() if name != PROBLEM]
    return f"{path}?{urlencode(pairs)}" if pairs else path


def arrived() -> str:
    """What became of the way there, for whoever has just come back; else nothing. Says it once."""
    code = st.query_params.get(PROBLEM)
    if code is None:
        return ""
    del st.query_params[PROBLEM]
    return translated(MESSAGES.get(code, MESSAGES["failed"]))


def tell() -> None:
    """Says it to somebody who is signed in, as a notice of the page."""
    tab().notice = arrived() or tab().notice
