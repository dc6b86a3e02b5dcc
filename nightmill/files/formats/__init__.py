"""Formats of files: one module each, and what they are made of."""
