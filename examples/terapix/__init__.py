"""Exposures of a distorted camera, from raw astrometry to tiles, with the programs of Terapix."""
