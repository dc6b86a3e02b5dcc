"""Thin Prefect tasks that join planning, execution, stagers and provenance."""
