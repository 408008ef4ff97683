"""Tools of MCP servers: the servers of a user, calling them, and the calls of an answer."""
