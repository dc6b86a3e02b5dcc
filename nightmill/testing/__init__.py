"""Shipped to those who write plug-ins: conformance suites. Needs pytest."""
