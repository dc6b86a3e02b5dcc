"""Confining a step: what it may reach is worked out here, and held by the kernel."""
