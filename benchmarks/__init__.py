"""The headline figures, each measured beside its floor: ``python -m benchmarks NAME --json``."""
