"""The pieces of the Profile page, one module each."""
