"""The entry script: page settings, the door, the menu, and then the page that was asked for."""

import streamlit as st

from portal import door, identity_providers, navigation, sign_in
from portal.brand import show_logo
from portal.door import enrolment
from portal.frame import show_account
from portal.pictures import address
from portal.wiring import MARK

st.set_page_config(page_title="Papita", page_icon=address(MARK), layout="centered")

user = sign_in.restore()
page = navigation.build(None if door.is_wanted(user) else user)
if user is None or door.is_wanted(user):
    door.show_door(user)
    st.stop()
identity_providers.tell()
show_logo()
show_account(user)
if enrolment.needed(user):
    enrolment.show_enrolment(user)
    sign_in.watch_session(page)
    st.stop()
sign_in.watch_session(page)
page.run()
