"""Smoothness on the picture grid: the Laplacian of weighted links between neighbours."""

from __future__ import annotations

from refdepth.arrays import Array, namespace


def laplacian(wx: Array, wy: Array, x: Array) -> Array:
    """The Laplacian of the links `wx` (H, W-1) and `wy` (H-1, W) times `x` (H, W)."""
    xp = namespace(x)
    result = xp.zeros_like(x)
    for axis, link in ((1, wx), (0, wy)):
        pull = link * xp.diff(x, axis=axis)
        end = xp.zeros_like(x[:, :1] if axis else x[:1])
        result = result - xp.diff(xp.concat([end, pull, end], axis=axis), axis=axis)
    return result
