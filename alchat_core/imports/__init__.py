"""Conversations from files: our own JSON, and ChatGPT's export.

A process of its own reads the file (`worker`), since it may be large, slow or hostile; the service
writes what comes out of it in small units.
"""
