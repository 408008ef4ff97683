"""Processes for what may be made to harm its reader: limited, and with nothing of ours in them."""
