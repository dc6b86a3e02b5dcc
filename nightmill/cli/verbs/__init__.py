"""The verbs, a module each: each is imported when it is asked for."""
