"""Sending lines of logs from the spool to what a site names as its sinks: each gets all, in its own time."""
