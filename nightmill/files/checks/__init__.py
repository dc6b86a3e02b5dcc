"""What a file of a type must be, beside being whole: one module a check."""
