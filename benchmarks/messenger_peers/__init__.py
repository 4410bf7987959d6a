"""What `benchmarks/messenger.py` compares, how each is driven, and how the result is shown. Runs by hand, on Linux."""
