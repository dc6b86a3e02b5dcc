"""A simulated camera of four detectors, from raw frames to catalogues that are checked against known stars."""
