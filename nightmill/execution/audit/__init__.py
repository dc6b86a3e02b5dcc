"""Auditing a step: every path that it tries is known by name, whatever its exit code says."""
