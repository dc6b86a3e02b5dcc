"""Bytes: between stores and local folders. One module a kind of store; none knows the database."""
