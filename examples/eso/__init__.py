"""HAWK-I at the VLT: darks, twilight flats and jittered science frames, for the recipes of ESO's pipeline."""
