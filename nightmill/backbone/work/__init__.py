"""Campaigns, slices, leases and attempts: who works on what, and how far it is."""
