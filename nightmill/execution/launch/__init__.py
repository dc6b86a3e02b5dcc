"""Launching the process of a step: how it is started is a module each, and how it is watched and ended is the same."""
