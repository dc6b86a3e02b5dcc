"""Chooses the inputs and names the outputs of every job."""
