"""The contestants, faults, trials and reports of `benchmarks/faults.py`."""
