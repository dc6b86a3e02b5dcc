"""Workflow-orchestrated batch processing for astronomical survey operations."""

__version__ = "0.2.0"
