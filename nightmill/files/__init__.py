"""What a file says of itself: headers, names, checks."""
