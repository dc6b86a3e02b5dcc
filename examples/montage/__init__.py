"""Overlapping images of one field, each with a background of its own, for Montage: one mosaic without seams."""
