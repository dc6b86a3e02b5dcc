"""Files, their copies, and what is said of them: in the caller's transaction."""
