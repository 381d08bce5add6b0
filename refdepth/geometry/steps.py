"""What counts as a step of depth."""

STEP_RATIO = 1.1
"""Ratio of depths of adjacent pixels from which they belong to different surfaces."""
