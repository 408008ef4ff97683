"""One table of the pages: path, section, title, icon and what it takes to open them.

All pages are registered on every run, whoever asks: an address that was asked for while signed
out is then still the one that opens after sign-in.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from portal.session import SignedIn
from portal.texts import N_, language, translated
from portal.wiring import ROOT

WORKSPACE, ACCOUNT, ADMIN = N_("Workspace"), N_("Account"), N_("Administration")


@dataclass(frozen=True, slots=True)
class PageEntry:
    """One page. `path` is its address without the slash; the dashboard's is empty."""

    name: str
    section: str
    file: str
    path: str
    title: str
    icon: str
    capability: str
    help: str


PAGES = (
    PageEntry(
        "dashboard",
        WORKSPACE,
        "pages/workspace/dashboard.py",
        "",
        N_("Dashboard"),
        ":material/space_dashboard:",
        "projects:launch",
        N_("Your projects, how they are doing, and the way in."),
    ),
    PageEntry(
        "al-chat",
        WORKSPACE,
        "pages/workspace/al_chat.py",
        "al-chat",
        "AL-Chat",
        ":material/forum:",
        "projects:launch",
        N_("Conversations with the model of your choice, paid with your own key."),
    ),
    PageEntry(
        "shared",
        WORKSPACE,
        "pages/workspace/shared.py",
        "shared",
        N_("Shared chats"),
        ":material/share:",
        "projects:launch",
        N_("Read-only chats that you share, and by their link those of others."),
    ),
    PageEntry(
        "credentials",
        WORKSPACE,
        "pages/workspace/credentials.py",
        "credentials",
        N_("Credentials"),
        ":material/key:",
        "credentials:read",
        N_("Your API keys: add, test, replace and delete them."),
    ),
    PageEntry(
        "profile",
        ACCOUNT,
        "pages/account/profile.py",
        "profile",
        N_("Profile"),
        ":material/person:",
        "profile",
        N_("Your name, password and sessions, what happened, and your data."),
    ),
    PageEntry(
        "connected-apps",
        ACCOUNT,
        "pages/account/connected_apps.py",
        "connected-apps",
        N_("Connected apps"),
        ":material/hub:",
        "profile",
        N_("Which projects may use your keys; take it back at any time."),
    ),
    PageEntry(
        "access-tokens",
        ACCOUNT,
        "pages/account/access_tokens.py",
        "access-tokens",
        N_("Access tokens"),
        ":material/key_vertical:",
        "tokens:manage",
        N_("Tokens with which scripts use the API in your name."),
    ),
    PageEntry(
        "users",
        ADMIN,
        "pages/admin/users.py",
        "users",
        N_("Users"),
        ":material/group:",
        "users:manage",
        N_("Who there is, and the switch that keeps a user out."),
    ),
    PageEntry(
        "projects",
        ADMIN,
        "pages/admin/projects.py",
        "projects",
        N_("Projects"),
        ":material/apps:",
        "projects:manage",
        N_("Which projects are on, and the switch that stops one for everybody."),
    ),
    PageEntry(
        "vault",
        ADMIN,
        "pages/admin/vault.py",
        "vault",
        N_("Vault"),
        ":material/encrypted:",
        "vault:manage",
        N_("The key ring, its rotation, and every credential without its secret."),
    ),
    PageEntry(
        "audit",
        ADMIN,
        "pages/admin/audit.py",
        "audit",
        N_("Audit log"),
        ":material/receipt_long:",
        "audit:read",
        N_("Every read of a key and every change, and whether the log is whole."),
    ),
)


def entry(name: str) -> PageEntry:
    """The row of the table."""
    return next(entry for entry in PAGES if entry.name == name)


def page(name: str) -> StreamlitPage:
    """The page of this name, to link or switch to."""
    return _page(entry(name))


def build(user: SignedIn | None) -> StreamlitPage:
    """Registers the pages and returns the one that was asked for.

    The menu shows what the user may open; strangers get none.
    """
    sections: dict[str, list[StreamlitPage]] = {}
    for entry in PAGES:
        hidden = user is None or not user.actor.may(entry.capability)
        sections.setdefault(translated(entry.section), []).append(_page(entry, hidden=hidden))
    # Below the menu stands what a page adds; where that is much, the rest of the menu is folded.
    # For strangers the menu has no page, which hides it: hidden by its position, the sidebar would
    # stay where it is, and empty, when somebody logs out.
    return st.navigation(sections, expanded=4)


def _page(entry: PageEntry, *, hidden: bool = False) -> StreamlitPage:
    # A copy, since a run of the script notes in it whether the page may be run.
    return copy.copy(_made(entry, hidden, language()))


@cache
def _made(entry: PageEntry, hidden: bool, _language: str) -> StreamlitPage:
    """Every run of every page needs all of them, and to make one looks for its file."""
    return st.Page(
        ROOT / entry.file,
        title=translated(entry.title),
        icon=entry.icon,
        url_path=entry.path,
        default=not entry.path,
        visibility="hidden" if hidden else "visible",
        help=translated(entry.help),
    )
