"""A run: configuration, artifacts, caching, resuming, progress."""
