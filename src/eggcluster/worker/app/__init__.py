"""The app worker's own part. Runs in the app workers."""
