"""The sidecar of a step: what it tells, as JSON lines."""
