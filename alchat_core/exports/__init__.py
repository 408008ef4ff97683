"""Conversations as files: one as JSON or Markdown, all as a ZIP."""
