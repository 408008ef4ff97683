"""The accounts at identity providers with which the user can sign in."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st

from papita_core.users.oidc.accounts import Identity
from portal import identity_providers, proof, wiring
from portal.confirm import Question, confirm
from portal.session import SignedIn
from portal.texts import t
from portal.words import ago, plain


def show_providers(user: SignedIn) -> None:
    """Nothing where there are no providers. Needs `proof.resume()` at the end of the page."""
    providers = identity_providers.providers()
    linked = wiring.services().papita.oidc.identities(user.actor)
    if not providers and not linked:
        return
    st.subheader(t("Log in with another account"), anchor=False)
    titles = {provider.name: provider.title for provider in providers}
    for name in dict.fromkeys([*titles, *(identity.provider for identity in linked)]):
        _show(user, name, titles, [one for one in linked if one.provider == name])
    identity_providers.show_way()


def _show(user: SignedIn, name: str, titles: dict[str, str], linked: Sequence[Identity]) -> None:
    title = titles.get(name, name)
    for identity in linked:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            with st.container(gap=None):
                st.markdown(f"**{plain(title)}**")
                if identity.email:
                    st.text(identity.email)  # Markdown would make a link of it
                st.caption(_used(identity))
            if st.button(
                t("Unlink"),
                key=f"profile_unlink_{identity.id}",
                help=t("Do not log in with this account at {title} any more", title=plain(title)),
            ):
                proof.first(partial(_ask, user, identity, title))
    if name in titles and not linked:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            with st.container(gap=None):
                st.markdown(f"**{plain(title)}**")
                st.caption(t("Not linked"))
            if st.button(
                t("Link"),
                key=f"profile_link_{name}",
                help=t("Log in with your account at {title} from now on", title=plain(title)),
            ):
                proof.first(partial(_link, name))


def _used(identity: Identity) -> str:
    if identity.last_used_at is None:
        return t("Linked {since}", since=ago(identity.created_at))
    return t(
        "Linked {since}, last used {used}",
        since=ago(identity.created_at),
        used=ago(identity.last_used_at),
    )


def _link(name: str) -> None:
    identity_providers.go_to(name, "link")
    st.rerun()


def _ask(user: SignedIn, identity: Identity, title: str) -> None:
    def unlink() -> str:
        wiring.services().papita.oidc.unlink(user.actor, identity.id)
        return t("Unlinked. Where you had logged in with it, you are logged out.")

    confirm(
        Question(
            t("Unlink {title}?", title=title),
            t("You can log in with it no longer, until you link it again."),
            t("Unlink"),
            unlink,
            "profile",
        )
    )
