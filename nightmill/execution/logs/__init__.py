"""What becomes of the output of steps: the log of an attempt, cut where it is huge, and its lines in the spool."""
