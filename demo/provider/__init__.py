"""A scripted OpenAI-compatible provider: the demo, the tests and the benchmarks talk to it.

What it answers follows from the name of the model alone, so it can be as pleasant or as broken
as the caller wants; demo/README.md lists the names. It knows nothing of Papita or AL-Chat.
"""
