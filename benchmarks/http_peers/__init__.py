"""What `benchmarks/http.py` compares, and how each of them is started, loaded and read."""
