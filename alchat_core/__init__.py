"""AL-Chat: a chat service that keeps no key of its own.

Importing this package imports nothing else; `alchat_core.client` talks to a running service.
"""
