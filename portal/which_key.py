"""Which key each project would use now, and why: the same answer that the API gives."""

from __future__ import annotations

import streamlit as st

from papita_core.credential_types import CREDENTIAL_TYPES
from papita_core.errors import CredentialNotFound, PapitaError
from papita_core.grants.service import Which
from papita_core.projects.catalogue import Project
from portal import wiring
from portal.session import SignedIn
from portal.texts import N_, said, t, translated
from portal.words import plain

MISSING = N_("Add one here, or ask an administrator to share one with you.")


def show_which_keys(user: SignedIn) -> None:
    """One line for each installed project."""
    papita = wiring.services().papita
    with st.container(border=True, key="which_key", gap="xsmall"):
        st.caption(t("Which key a project uses"))
        for project in papita.projects.catalogue():
            if not project.installed:
                continue
            try:
                st.markdown(which_line(project, papita.grants.which(user.actor, project.id)))
            except PapitaError as error:
                st.markdown(f"{project.icon} **{project.title}**: {plain(said(error))}")


def which_line(project: Project, which: Which) -> str:
    """`AL-Chat uses Team key (OpenAI), because …`, or what is missing and what to do."""
    used = which.credential
    if used is None:
        why = MISSING if which.code == CredentialNotFound.code else which.sentence
        lacks = t("**{project}** has no key to use.", project=project.title)
        return f"{project.icon} {lacks} {plain(translated(why))}"
    words = {
        "project": project.title,
        "key": plain(used.label),
        "kind": translated(CREDENTIAL_TYPES[used.credential_type].title),
    }
    if which.reason == "shared":
        sentence = t(
            "**{project}** uses **{key}** ({kind}), which {name} shares with you, because you have"
            " none of your own for it.",
            name=plain(used.shared_by or t("somebody")),
            **words,
        )
    elif which.reason == "project":
        sentence = t(
            "**{project}** uses **{key}** ({kind}), because it is yours for {project} alone.",
            **words,
        )
    else:
        sentence = t(
            "**{project}** uses **{key}** ({kind}), because it is yours for all projects.", **words
        )
    return f"{project.icon} {sentence}"
