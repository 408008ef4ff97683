"""Conversations and their messages, kept as trees."""
