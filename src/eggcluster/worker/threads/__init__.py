"""What only thread and interpreter mode need. Runs in workers that are threads."""
