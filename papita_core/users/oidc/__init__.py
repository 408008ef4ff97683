"""Signing in by OpenID Connect; the only importer of authlib and joserfc.

providers   who there is to sign in at, read from a TOML file
client      one provider: what it says of itself, its keys, codes traded for tokens, tokens checked
attempts    a sign-in that is under way, bound to the browser that began it
accounts    which account an identity belongs to, and which role its groups give it
service     the three together: `OidcService`
"""
