"""The least that Streamlit can show of a chat: an input. Served by `streamlit run`."""

import streamlit as st

st.chat_input("Message AL-Chat")
