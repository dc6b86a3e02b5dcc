"""Starting a step in a container: one port, a module a runtime, and what a host has of what an order names."""
