"""Real frames, which come with ccdproc and astroscrappy, from their own headers to a quick look at what is in them."""
