"""Frozen nouns of the system: orders, journals, pipelines, campaigns, file types, stores, ports."""
