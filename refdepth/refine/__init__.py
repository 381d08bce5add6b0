"""Refinement of a scaled prior against its neighbours.

Settings are light and stand in `refdepth.refine.settings`; the rounds load compiled kernels and are
imported from `refdepth.refine.rounds` where they run.
"""
