"""Refinement of a scaled prior against its neighbours."""
