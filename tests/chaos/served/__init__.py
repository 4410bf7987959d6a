"""What the chaos tests serve."""
