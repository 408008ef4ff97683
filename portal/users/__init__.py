"""The pieces of the Users page, one module each."""
