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
from papita_core.vault.keyring import USER_TOKEN, PurposeStatus, RingStatus, RootStatus
from papita_core.vault.master_key import GENERATED
from papita_core.vault.records import AdminCredential
from papita_core.vault.rotation import Progress
from portal import wiring
from portal.confirm import Question, attempt, confirm
from portal.credential_tests import show_badge
from portal.session import SignedIn, actor, require_user, tab
from portal.texts import N_, said, t, tn, translated
from portal.words import ago, any_of, local, number, plain

CAPABILITY = "vault:manage"
BACKED_UP = "vault.backed-up"
PAGE_SIZE = 25
SHORT = 8
SERVICES = {"aws-kms": "NEW_KEY", "vault-transit": "MOUNT/NEW_KEY"}
PURPOSES = {
    "audit": N_("chains the audit log"),
    "fingerprint": N_("recognises repeated requests and keys"),
    USER_TOKEN: N_("signs user tokens"),
}
STATES = (N_("active"), N_("retired"), N_("next"), N_("staged"), N_("retiring"))
SHARED = {"everybody": N_("shared with everybody"), "named": N_("shared with some users")}


# --- the ring ---


def show_sealed(ring: RingStatus) -> None:
    """What a sealed vault means, and what opens it."""
    wanted = any_of(f"`{kid}`" for kid in ring.wanted) or t("none that is known")
    found = (
        t(
            "The key in force is `{id}` from {place}, which does not open it.",
            id=ring.master_kid,
            place=plain(ring.source or ""),
        )
        if ring.master_kid
        else t("No master key was found.")
    )
    sealed = t("**The vault is sealed: no key can be lent.** Nothing is lost.")
    st.error(f"{sealed} {found}", icon=":material/lock:")
    st.markdown(
        t(
            "It opens with the master key {ids}. Put that key back: into the file that"
            " `PAPITA_MASTER_KEY_FILE` names, into `PAPITA_MASTER_KEY`, or as `keys/master.key`"
            " beside the data folder. Then start Papita again. `python -m papita_core doctor` says"
            " what it finds.",
            ids=wanted,
        )
    )


def show_master_key(ring: RingStatus) -> None:
    """Where the master key comes from, its id, and how it is changed."""
    with _card(t("Master key"), ":material/key:"):
        if ring.master_kid is None:
            st.markdown(t("None was found."))
            return
        st.markdown(t("{id} from {place}", id=f"`{ring.master_kid[:SHORT]}`", place=_source(ring)))
        st.caption(
            t("It does not open the root key.")
            if ring.sealed
            else t("It opens the root key and lies outside the database. Keep a copy elsewhere.")
        )
        st.space("stretch")
        if ring.sealed:
            return
        if (ring.source or "").startswith(GENERATED):
            if st.button(t("Change master key"), icon=":material/swap_horiz:", key="vault_master"):
                confirm(
                    Question(
                        t("Change master key"),
                        t(
                            "Papita makes a new `keys/master.key` and removes the old one from the"
                            " key ring; no stored key is touched and everything goes on meanwhile."
                            " **Copy the new file to where you keep the old one.** Backups that"
                            " were made before still need the old key, so keep it as long as you"
                            " keep those."
                        ),
                        t("Change"),
                        _change_master,
                        CAPABILITY,
                    )
                )
        else:
            with st.popover(t("How to change it"), icon=":material/swap_horiz:"):
                st.markdown(t("Papita does not write to this place. On the host, in this order:"))
                st.code(_master_commands(ring), language=None, wrap_lines=True)


def _change_master() -> str:
    try:
        change = wiring.services().papita.rotation.rotate_master(actor())
    except SettingsError as error:
        raise Conflict(t("The key could not be changed: {why}.", why=error)) from None
    return t(
        "The master key is {id} now. Copy {place} to a safe place.",
        id=change.kid[:SHORT],
        place=change.source,
    )


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
    return f"`{ring.source}`" if ring.source else t("an unknown place")


def show_root_key(ring: RingStatus, progress: Progress) -> None:
    """The active root key, its age, and a rotation with its progress."""
    active = [root for root in ring.roots if root.state == "active"]
    with _card(t("Root key"), ":material/account_tree:"):
        if active:
            kid, when = f"`{active[0].kid[:SHORT]}`", ago(active[0].created_at)
            st.markdown(t("{id} made {when}", id=kid, when=when))
        st.caption(
            t(
                "It wraps the key of every stored secret. Rotating it takes nothing offline:"
                " lending and saving go on."
            )
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
    if tab().rotating and progress.state != "running":
        # Few rows are moved before anybody could have seen it run.
        tab().rotating = False
        tab().notice = t("The root key is rotated.") if progress.state == "idle" else None
        st.rerun(scope="app")
    if progress.state != drawn:
        st.rerun(scope="app")
    if progress.state == "running":
        tab().rotating = True
        share = progress.done / progress.total if progress.total else 1.0
        st.progress(
            min(share, 1.0),
            text=t(
                "{done} of {total} moved. You may leave this page.",
                done=number(progress.done),
                total=number(progress.total),
            ),
        )
        return
    if progress.state == "interrupted":
        st.warning(
            t(
                "The last rotation stopped at {done} of {total}. Nothing is lost; go on with it.",
                done=number(progress.done),
                total=number(progress.total),
            ),
            icon=":material/warning:",
        )
    st.button(
        t("Go on with the rotation") if progress.state == "interrupted" else t("Rotate root key"),
        icon=":material/autorenew:",
        key="vault_rotate",
        on_click=_rotate,
    )


def _rotate() -> None:
    try:
        wiring.services().papita.rotation.start_root(actor())
    except PapitaError as error:
        tab().notice = said(error)
    else:
        tab().rotating = True


def show_signing_key(ring: RingStatus) -> None:
    """The key that signs user tokens: its age, and that of the one to come."""
    keys = [key for key in ring.purposes if key.purpose == USER_TOKEN]
    active = [key for key in keys if key.state == "active"]
    with _card(t("Signing key"), ":material/signature:"):
        if active:
            kid, when = f"`{active[0].kid[:SHORT]}`", ago(active[0].since)
            st.markdown(t("{id} put in force {when}", id=kid, when=when))
        st.caption(
            t(
                "It signs the tokens with which the portal calls projects. The next one is"
                " published ahead, so a change is not noticed."
            )
        )
        st.space("stretch")
        if not ring.sealed:
            st.button(
                t("Rotate signing key"),
                icon=":material/autorenew:",
                key="vault_signing",
                on_click=_rotate_signing,
            )


def _rotate_signing() -> None:
    attempt(
        lambda: wiring.services().papita.rotation.rotate_signing(actor()),
        t("The signing key is rotated: the next one is in force."),
    )


def show_backup(user: SignedIn) -> None:
    """When the last backup was made, from the audit log."""
    log = wiring.services().papita.audit
    last = log.entries(user.actor, AuditFilter(action=BACKED_UP), limit=1).items
    with _card(t("Last backup"), ":material/backup:"):
        if last:
            st.markdown(t("Made {when}", when=ago(last[0].at)))
        else:
            st.markdown(":orange[:material/warning:] " + t("There is none yet."))
        st.caption(t("Sealed as it is here; useless without the master key, which is not in it."))
        st.space("stretch")
        st.code("python -m papita_core backup FOLDER", language=None, wrap_lines=True)


def show_keys(ring: RingStatus) -> None:
    """All keys that the ring knows, the newest first."""
    with st.expander(t("All keys of the ring"), icon=":material/list:"):
        lines = [
            _key_line(t("Root key `{id}`", id=root.kid[:SHORT]), root)
            + (f", {_opens_with(root.slots)}" if root.slots else "")
            for root in reversed(ring.roots)
        ]
        lines += [
            _key_line(
                f"`{key.kid[:SHORT]}` {translated(PURPOSES.get(key.purpose, key.purpose))}",
                key,
            )
            for key in reversed(ring.purposes)
        ]
        st.markdown("\n".join(lines))
        st.caption(t("A retired root key opens nothing any more."))


def _key_line(name: str, key: RootStatus | PurposeStatus) -> str:
    facts = [t("made {when}", when=_when(key.created_at))]
    if key.retired_at:
        facts.append(t("retired {when}", when=_when(key.retired_at)))
    return f"- {name}: **{translated(key.state)}**, {', '.join(facts)}"


def _opens_with(kids: Iterable[str]) -> str:
    return t("opens with {ids}", ids=any_of(f"`{kid[:SHORT]}`" for kid in kids))


def _when(at: datetime) -> str:
    return f"{local(at):%Y-%m-%d %H:%M}"


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
        st.error(plain(translated(progress.problem)), icon=":material/error:")
        return
    names = "\n".join(
        f"- **{plain(item.label)}**, {plain(item.owner_name)}, `{item.id}`" for item in concerned
    )
    text = tn(
        "{count} credential cannot be read, since the row was changed outside Papita. Its owner has"
        " to replace or delete it; then rotate again. The old root key stays until then, and no"
        " other credential is concerned.",
        "{count} credentials cannot be read, since the row was changed outside Papita. Their owners"
        " have to replace or delete them; then rotate again. The old root key stays until then, and"
        " no other credential is concerned.",
        len(concerned),
    )
    st.error(f"{text}\n\n{names}", icon=":material/error:")


def show_credentials(user: SignedIn) -> None:
    """Everybody's credentials, page by page."""
    shown = st.session_state.setdefault("vault_shown", PAGE_SIZE)
    items = list(islice(_everyones(user), shown + 1))
    for item in items[:shown]:
        show_credential(item)
    if not items:
        st.caption(t("Nobody has stored a key yet."))
    if len(items) > shown and st.button(t("Show more"), key="vault_more"):
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
                t("Unblock"),
                icon=":material/lock_open:",
                key=f"vault_unblock_{item.id}",
                on_click=_unblock,
                args=(item,),
            )
        elif st.button(t("Block"), icon=":material/lock:", key=f"vault_block_{item.id}"):
            confirm(
                Question(
                    t("Block credential"),
                    t(
                        "Block **{label}** of {owner}? No project gets it from this moment, and"
                        " answers that are being written with it stop within seconds. Its owner"
                        " sees that an administrator has blocked it.",
                        label=plain(item.label),
                        owner=plain(item.owner_name),
                    ),
                    t("Block"),
                    lambda: _block(item),
                    CAPABILITY,
                )
            )


def _facts(item: AdminCredential) -> str:
    kind = CREDENTIAL_TYPES.get(item.credential_type)
    facts = [item.owner_name, translated(kind.title) if kind else item.credential_type]
    if item.project_id:
        facts.append(t("only for {project}", project=item.project_id))
    if item.shared in SHARED:
        facts.append(translated(SHARED[item.shared]))
    facts.append(
        t("used {when}", when=ago(item.last_used_at)) if item.last_used_at else t("never used")
    )
    return ", ".join(facts)


def _block(item: AdminCredential) -> str:
    wiring.services().papita.credentials.set_blocked(actor(), item.id, True)
    return t("{label} is blocked; no project gets it any more.", label=item.label)


def _unblock(item: AdminCredential) -> None:
    attempt(
        lambda: wiring.services().papita.credentials.set_blocked(actor(), item.id, False),
        t("{label} can be used again.", label=item.label),
    )
