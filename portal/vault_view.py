"""Draws the vault for administrators: the key ring, its rotations, and what there is to protect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from papita_core.audit.service import AuditFilter
from papita_core.credential_types import CREDENTIAL_TYPES
from papita_core.errors import Conflict, PapitaError
from papita_core.settings import SettingsError
from papita_core.vault.keyring import USER_TOKEN, RingStatus
from papita_core.vault.master_key import GENERATED
from papita_core.vault.records import AdminCredential
from papita_core.vault.rotation import Progress
from portal import wiring
from portal.confirm import Question, attempt, confirm
from portal.credential_tests import show_badge
from portal.session import SignedIn, actor, require_user, tab
from portal.words import ago, plain, plural

CAPABILITY = "vault:manage"
BACKED_UP = "vault.backed-up"
PAGE_SIZE = 25
SHORT = 8
SERVICES = {"aws-kms": "NEW_KEY", "vault-transit": "MOUNT/NEW_KEY"}
PURPOSES = {
    "audit": "chains the audit log",
    "fingerprint": "recognises repeated requests and keys",
    USER_TOKEN: "signs user tokens",
}
SHARED = {"everybody": "shared with everybody", "named": "shared with some users"}


# --- the ring ---


def show_sealed(ring: RingStatus) -> None:
    """What a sealed vault means, and what opens it."""
    wanted = " or ".join(f"`{kid}`" for kid in ring.wanted) or "none that is known"
    found = (
        f"The key in force is `{ring.master_kid}` from {plain(ring.source or '')}, which does not"
        " open it."
        if ring.master_kid
        else "No master key was found."
    )
    st.error(
        f"**The vault is sealed: no key can be lent.** Nothing is lost. {found}",
        icon=":material/lock:",
    )
    st.markdown(
        f"It opens with the master key {wanted}. Put that key back: into the file that"
        " `PAPITA_MASTER_KEY_FILE` names, into `PAPITA_MASTER_KEY`, or as `keys/master.key` beside"
        " the data folder. Then start Papita again. `python -m papita_core doctor` says what it"
        " finds."
    )


def show_master_key(ring: RingStatus) -> None:
    """Where the master key comes from, its id, and how it is changed."""
    with _card("Master key", ":material/key:"):
        if ring.master_kid is None:
            st.markdown("None was found.")
            return
        st.markdown(f"`{ring.master_kid[:SHORT]}` from {_source(ring)}")
        st.caption(
            "It does not open the root key."
            if ring.sealed
            else "It opens the root key and lies outside the database. Keep a copy elsewhere."
        )
        st.space("stretch")
        if ring.sealed:
            return
        if (ring.source or "").startswith(GENERATED):
            if st.button("Change master key", icon=":material/swap_horiz:", key="vault_master"):
                confirm(
                    Question(
                        "Change master key",
                        "Papita makes a new `keys/master.key` and removes the old one from the key"
                        " ring; no stored key is touched and everything goes on meanwhile. **Copy"
                        " the new file to where you keep the old one.** Backups that were made"
                        " before still need the old key, so keep it as long as you keep those.",
                        "Change",
                        _change_master,
                        CAPABILITY,
                    )
                )
        else:
            with st.popover("How to change it", icon=":material/swap_horiz:"):
                st.markdown("Papita does not write to this place. On the host, in this order:")
                st.code(_master_commands(ring), language="bash", wrap_lines=True)


def _change_master() -> str:
    try:
        change = wiring.services().papita.rotation.rotate_master(actor())
    except SettingsError as error:
        raise Conflict(f"The key could not be changed: {error}.") from None
    return f"The master key is {change.kid[:SHORT]} now. Copy {change.source} to a safe place."


def _master_commands(ring: RingStatus) -> str:
    kind = (ring.source or "").partition(":")[0]
    if kind in SERVICES:
        new, setting = f"{kind}:{SERVICES[kind]}", "PAPITA_MASTER_KEY_URI"
        first = "# the new key is made in the service, and Papita may use it"
    else:
        new, setting = "NEW_FILE", "PAPITA_MASTER_KEY_FILE"
        first = f"umask 077 && openssl rand -base64 32 > {new}"
    return (
        f"{first}\n"
        f"python -m papita_core keys rotate --master --to {new}\n"
        f"# start Papita with {setting}={new} and without the setting before, then\n"
        "python -m papita_core keys rotate --master --finish"
    )


def _source(ring: RingStatus) -> str:
    return f"`{ring.source}`" if ring.source else "an unknown place"


def show_root_key(ring: RingStatus, progress: Progress) -> None:
    """The active root key, its age, and a rotation with its progress."""
    active = [root for root in ring.roots if root.state == "active"]
    with _card("Root key", ":material/account_tree:"):
        if active:
            st.markdown(f"`{active[0].kid[:SHORT]}` made {ago(active[0].created_at)}")
        st.caption(
            "It wraps the key of every stored secret. Rotating it takes nothing offline: lending"
            " and saving go on."
        )
        st.space("stretch")
        if not ring.sealed:
            _show_rotation(progress)


def _show_rotation(progress: Progress) -> None:
    """Button or progress, looked at again and again: another tab or process may begin.

    The work is on a thread of its process, so that leaving the page does not end it.
    """
    every = 1 if progress.state == "running" else 2
    st.fragment(_rotation, run_every=every)(progress.state)


def _rotation(drawn: str) -> None:
    require_user(CAPABILITY, seen=False)
    progress = wiring.services().papita.rotation.progress()
    if progress.state != drawn:
        if drawn == "running":
            tab().notice = "The root key is rotated." if progress.state == "idle" else None
        st.rerun(scope="app")
    if progress.state == "running":
        share = progress.done / progress.total if progress.total else 1.0
        st.progress(
            min(share, 1.0),
            text=f"{progress.done:,} of {progress.total:,} moved. You may leave this page.",
        )
        return
    if progress.state == "interrupted":
        st.warning(
            f"The last rotation stopped at {progress.done:,} of {progress.total:,}. Nothing is"
            " lost; go on with it.",
            icon=":material/warning:",
        )
    st.button(
        "Go on with the rotation" if progress.state == "interrupted" else "Rotate root key",
        icon=":material/autorenew:",
        key="vault_rotate",
        on_click=_rotate,
    )


def _rotate() -> None:
    try:
        wiring.services().papita.rotation.start_root(actor())
    except PapitaError as error:
        tab().notice = str(error)


def show_signing_key(ring: RingStatus) -> None:
    """The key that signs user tokens: its age, and that of the one to come."""
    keys = [key for key in ring.purposes if key.purpose == USER_TOKEN]
    active = [key for key in keys if key.state == "active"]
    with _card("Signing key", ":material/signature:"):
        if active:
            st.markdown(f"`{active[0].kid[:SHORT]}` put in force {ago(active[0].since)}")
        st.caption(
            "It signs the tokens with which the portal calls projects. The next one is published"
            " ahead, so a change is not noticed."
        )
        st.space("stretch")
        if not ring.sealed:
            st.button(
                "Rotate signing key",
                icon=":material/autorenew:",
                key="vault_signing",
                on_click=_rotate_signing,
            )


def _rotate_signing() -> None:
    attempt(
        lambda: wiring.services().papita.rotation.rotate_signing(actor()),
        "The signing key is rotated: the next one is in force.",
    )


def show_backup(user: SignedIn) -> None:
    """When the last backup was made, from the audit log."""
    log = wiring.services().papita.audit
    last = log.entries(user.actor, AuditFilter(action=BACKED_UP), limit=1).items
    with _card("Last backup", ":material/backup:"):
        if last:
            st.markdown(f"Made {ago(last[0].at)}")
        else:
            st.markdown(":orange[:material/warning:] There is none yet.")
        st.caption("Sealed as it is here; useless without the master key, which is not in it.")
        st.space("stretch")
        st.code("python -m papita_core backup FOLDER", language="bash", wrap_lines=True)


def show_keys(ring: RingStatus) -> None:
    """All keys that the ring knows, the newest first."""
    with st.expander("All keys of the ring", icon=":material/list:"):
        lines = [
            f"- Root key `{root.kid[:SHORT]}`: **{root.state}**, made {_when(root.created_at)}"
            + (f", retired {_when(root.retired_at)}" if root.retired_at else "")
            + (f", opens with {_ids(root.slots)}" if root.slots else "")
            for root in reversed(ring.roots)
        ]
        lines += [
            f"- `{key.kid[:SHORT]}` {PURPOSES.get(key.purpose, key.purpose)}: **{key.state}**,"
            f" made {_when(key.created_at)}"
            + (f", retired {_when(key.retired_at)}" if key.retired_at else "")
            for key in reversed(ring.purposes)
        ]
        st.markdown("\n".join(lines))
        st.caption("Times are UTC. A retired root key opens nothing any more.")


def _ids(kids: Iterable[str]) -> str:
    return " or ".join(f"`{kid[:SHORT]}`" for kid in kids)


def _when(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"


def _card(title: str, icon: str) -> DeltaGenerator:
    card = st.container(border=True, height="stretch", gap="small")
    card.markdown(f"{icon} **{title}**")
    return card


# --- what there is to protect ---


def show_problems(user: SignedIn, progress: Progress) -> None:
    """What keeps a rotation from its end: the credentials that cannot be read, by their names."""
    if not progress.problem:
        return
    concerned = [item for item in _everyones(user) if item.id in progress.problem]
    if not concerned:
        st.error(plain(progress.problem), icon=":material/error:")
        return
    names = "\n".join(
        f"- **{plain(item.label)}** of {plain(item.owner_name)}, `{item.id}`" for item in concerned
    )
    st.error(
        f"{plural(len(concerned), 'credential')} cannot be read, since the row was changed outside"
        " Papita. Their owners have to replace or delete them; then rotate again. The old root key"
        f" stays until then, and no other credential is concerned.\n\n{names}",
        icon=":material/error:",
    )


def show_credentials(user: SignedIn) -> None:
    """Everybody's credentials, page by page."""
    shown = st.session_state.setdefault("vault_shown", PAGE_SIZE)
    items = list(islice(_everyones(user), shown + 1))
    for item in items[:shown]:
        show_credential(item)
    if not items:
        st.caption("Nobody has stored a key yet.")
    if len(items) > shown and st.button("Show more", key="vault_more"):
        st.session_state["vault_shown"] = shown + 4 * PAGE_SIZE
        st.rerun()


def _everyones(user: SignedIn) -> Iterator[AdminCredential]:
    vault = wiring.services().papita.credentials
    cursor = None
    while True:
        page = vault.everyones(user.actor, cursor=cursor, limit=100)
        yield from page.items
        cursor = page.next_cursor
        if cursor is None:
            return


def show_credential(item: AdminCredential) -> None:
    """One row: whose, of which type, how it is; and the switch that stops it for everybody."""
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        with st.container(gap="xsmall"):
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.markdown(f"**{plain(item.label)}**", width="content")
                show_badge(item.status)
            st.caption(plain(_facts(item)))
        if item.blocked:
            st.button(
                "Unblock",
                icon=":material/lock_open:",
                key=f"vault_unblock_{item.id}",
                on_click=_unblock,
                args=(item,),
            )
        elif st.button("Block", icon=":material/lock:", key=f"vault_block_{item.id}"):
            confirm(
                Question(
                    "Block credential",
                    f"Block **{plain(item.label)}** of {plain(item.owner_name)}? No project gets it"
                    " from this moment, and answers that are being written with it stop within"
                    " seconds. Its owner sees that an administrator has blocked it.",
                    "Block",
                    lambda: _block(item),
                    CAPABILITY,
                )
            )


def _facts(item: AdminCredential) -> str:
    kind = CREDENTIAL_TYPES.get(item.credential_type)
    facts = [item.owner_name, kind.title if kind else item.credential_type]
    if item.project_id:
        facts.append(f"only for {item.project_id}")
    if item.shared in SHARED:
        facts.append(SHARED[item.shared])
    facts.append(f"used {ago(item.last_used_at)}" if item.last_used_at else "never used")
    return ", ".join(facts)


def _block(item: AdminCredential) -> str:
    wiring.services().papita.credentials.set_blocked(actor(), item.id, True)
    return f"{item.label} is blocked; no project gets it any more."


def _unblock(item: AdminCredential) -> None:
    attempt(
        lambda: wiring.services().papita.credentials.set_blocked(actor(), item.id, False),
        f"{item.label} can be used again.",
    )
