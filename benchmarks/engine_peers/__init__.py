"""What `benchmarks/engines.py` compares, and how each server is started, loaded and read."""
