"""The figures of the README, taken on the running system: portal, AL-Chat, provider, load client.

Each of these is a process of its own, so nothing that is measured shares an interpreter with what
measures it; they do share the machine.
"""
