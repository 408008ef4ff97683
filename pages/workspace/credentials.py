"""The credentials editor: what there is, which key a project uses; add, import, test, replace."""

import streamlit as st

from portal import wiring
from portal.credential_cards import SEALED, show_card, show_shared
from portal.credential_form import add_credential, replace_credential
from portal.credential_tests import collect_tests, follow_tests
from portal.dashboard.attention import REPLACE
from portal.env_import import import_env
from portal.session import require_user, tab
from portal.texts import t, translated
from portal.vault_banner import show_if_sealed
from portal.which_key import show_which_keys

user = require_user("credentials:read")
papita = wiring.services().papita
vault = papita.credentials
sealed = papita.ring.sealed
collect_tests()
busy = False  # a dialog is open: it must not be closed by a test that ends

with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title(t("Credentials"), anchor=False, width="content")
    if user.actor.may("credentials:write"):
        why = translated(SEALED) if sealed else None
        with st.container(horizontal=True, width="content", gap="small"):
            if st.button(
                t("Import .env"), icon=":material/upload_file:", disabled=sealed, help=why
            ):
                import_env()
                busy = True
            if st.button(
                t("Add credential"),
                icon=":material/add:",
                type="primary",
                disabled=sealed,
                help=why,
            ):
                add_credential()
                busy = True
st.caption(
    t(
        "Keys are stored encrypted and never shown again. A project gets one only after you allowed"
        " it, for minutes, and every use is recorded."
    )
)
show_if_sealed(user)
show_which_keys(user)

mine = vault.list(user.actor, limit=200).items
usage = vault.usage(user.actor, [info.id for info in mine])
for credential in mine:
    busy |= show_card(user, credential, usage.get(credential.id))
if not mine:
    with st.container(border=True, horizontal_alignment="center"):
        st.markdown(t("**No key of your own yet.** Add your OpenAI key, or import a `.env` file."))

shared = vault.shared_with_me(user.actor)
if shared:
    st.subheader(t("Shared with you"), anchor=False)
    st.caption(t("Projects can use these for you. Nobody but their owner can change them."))
    for item in shared:
        show_shared(item)

wanted = st.query_params.pop(REPLACE, None)
if wanted and not busy and not sealed:
    for info in mine:
        if info.id == wanted:
            replace_credential(info)
            busy = True
if tab().testing and not busy:
    follow_tests()
