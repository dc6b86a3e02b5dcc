"""Shipped to authors of pipelines and plug-ins: a bench for steps, and conformance suites, which need pytest."""
