"""YAML becomes model objects here, once."""
