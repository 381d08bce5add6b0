"""Depth priors behind one protocol."""
