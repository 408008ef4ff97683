"""Runs: answers being written, which belong to the service and not to a request."""
