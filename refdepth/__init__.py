"""refdepth."""
