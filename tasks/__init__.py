"""Prefect tasks, thin, and what keeps their number within what the server can take."""
