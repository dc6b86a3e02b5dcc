"""Pipelines and campaigns that run."""
