"""Comparing windows along rays: cost volume, semi-global aggregation, propagation. What sweep and
refinement both stand on."""
