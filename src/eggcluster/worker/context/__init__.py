"""What the running worker is, and what its code has registered."""
