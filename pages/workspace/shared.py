"""What others share with the user, one at a time by its link; and what the user shares."""

import streamlit as st

from portal.chat.sharing import SHARE, show_mine, show_shared
from portal.session import require_user
from portal.texts import t

require_user("projects:launch")

share_id = st.query_params.get(SHARE)
if share_id:
    show_shared(share_id)
else:
    st.title(t("Shared chats"), anchor=False)
    st.caption(t("What you share with others, as it was when you shared it."))
    show_mine()
