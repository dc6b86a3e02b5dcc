"""Prefect flows: order and failure policy."""
