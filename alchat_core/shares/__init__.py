"""Read-only snapshots of conversations for other users of the portal."""
