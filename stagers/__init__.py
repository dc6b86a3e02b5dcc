"""Bytes: between stores and scratch."""
