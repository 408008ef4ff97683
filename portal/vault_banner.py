"""What a page says while the vault is sealed: in words that help, to whoever can act on it."""

from __future__ import annotations

import streamlit as st

from portal import wiring
from portal.session import SignedIn


def show_if_sealed(user: SignedIn) -> bool:
    """The banner; True while the vault is sealed, when no key can be read or stored."""
    ring = wiring.services().papita.ring
    if not ring.sealed:
        return False
    if not user.actor.may("vault:manage"):
        st.warning(
            "**The vault is sealed.** Your keys are safe, but nobody can use, add or change one"
            " until an administrator has opened it. Please tell one.",
            icon=":material/lock:",
        )
        return True
    wanted = " or ".join(f"`{kid}`" for kid in ring.status.wanted)
    which = f"Wanted is the master key with the id {wanted}. " if wanted else ""
    st.error(
        "**The vault is sealed: Papita was started without its master key.** Nothing is lost, but"
        f" no key can be used, added or changed. {which}Give it with `PAPITA_MASTER_KEY_FILE` or"
        " `PAPITA_MASTER_KEY` and start Papita again.",
        icon=":material/lock:",
    )
    return True
