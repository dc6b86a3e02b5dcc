"""What files exist, what they are, and where their copies are."""
