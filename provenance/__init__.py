"""What was used, made, measured and logged: from journals to rows, and back."""
