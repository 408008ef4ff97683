"""The service over HTTP: parse, call, map errors, nothing else."""
