"""What a page says while the vault is sealed: in words that help, to whoever can act on it."""

from __future__ import annotations

import streamlit as st

from portal import wiring
from portal.session import SignedIn
from portal.texts import t
from portal.words import any_of


def show_if_sealed(user: SignedIn) -> bool:
    """The banner; True while the vault is sealed, when no key can be read or stored."""
    ring = wiring.services().papita.ring
    if not ring.sealed:
        return False
    if not user.actor.may("vault:manage"):
        st.warning(
            t(
                "**The vault is sealed.** Your keys are safe, but nobody can use, add or change one"
                " until an administrator has opened it. Please tell one."
            ),
            icon=":material/lock:",
        )
        return True
    sentences = [
        t(
            "**The vault is sealed: Papita was started without its master key.** Nothing is lost,"
            " but no key can be used, added or changed."
        )
    ]
    if ring.status.wanted:
        ids = any_of(f"`{kid}`" for kid in ring.status.wanted)
        sentences.append(t("Wanted is the master key with the id {ids}.", ids=ids))
    sentences.append(
        t(
            "Give the key with `PAPITA_MASTER_KEY_FILE` or `PAPITA_MASTER_KEY` and start Papita"
            " again."
        )
    )
    st.error(" ".join(sentences), icon=":material/lock:")
    return True
