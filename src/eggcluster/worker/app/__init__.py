"""The app worker's own part."""
