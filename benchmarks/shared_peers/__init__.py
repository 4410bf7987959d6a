"""What `benchmarks/shared.py` starts: a cluster that knows Redis, too, and gunicorn with a dirty worker."""
