"""What only thread and interpreter mode need."""
