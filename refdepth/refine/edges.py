"""Sharp depth edges.

Monocular networks smear depth across edges: between an object and what is behind it lie pixels at
depths where there is nothing. They end up as points in the air, and no correction that is smooth
on a surface repairs them. Here each moves to the surface on one side, as a weighted median of its
surroundings, in which pixels of its colour, close to it, and not themselves between two surfaces
count most (guided weighted median filtering, after Ma et al., "Constant time weighted median
filtering for stereo matching and beyond", ICCV 2013).
All lengths are shares of the picture's longer side: the same picture at another size is treated
alike.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from refdepth.refine.edge_kernels import gaps, move_to_a_side

Map = NDArray[np.float32]

STEP = 1 / 256
"""Distance of the neighbours that a smeared pixel lies between, as a share of the longer side."""
LEAST_GAP = 0.03
"""Difference of log depth to both of them from which a pixel counts as smeared, and those next to
it: a smear's ends differ too little to be seen alone."""
NEXT_TO_A_GAP = 0.5
"""How much a pixel is doubted for a neighbour's gap, against its own."""
SOLID = 0.04
"""The gap at which a pixel has lost 1 - 1/e of its weight for others."""
LIKENESS = 0.15
"""Difference of colour, summed over channels, at which a pixel has."""
SPREAD = 0.6
"""Standard deviation of the weight's fall with distance, in parts of the reach."""


def sharpen_edges(depth: Map, image: Map, reach: float) -> Map:
    """`depth` (H, W; 0 unknown) with its smeared edges made steps, guided by the photo `image`
    (H, W, 3) in [0, 1]. Sides are looked for within `reach`, a share of the longer side."""
    longer = max(depth.shape)
    # Five by five pixels, whatever the size.
    taps = np.unique(np.rint(reach * longer * np.linspace(-1, 1, 5))).astype(np.int64)
    if len(taps) == 1:
        return depth
    known = depth > 0
    log_depth = np.log(np.where(known, depth, np.nan)).astype(np.float32)
    gap, sharp = np.empty_like(log_depth), np.empty_like(log_depth)
    step = max(1, round(STEP * longer))
    gaps(log_depth, step, gap)
    around = ndimage.maximum_filter(gap, 2 * step + 1)
    doubt = np.maximum(gap, NEXT_TO_A_GAP * around)
    solid = np.exp(-((doubt / SOLID) ** 2), dtype=np.float32)
    nearness = 0.5 / (SPREAD * reach * longer) ** 2
    move_to_a_side(log_depth, around > LEAST_GAP, solid, image, taps, LIKENESS, nearness, sharp)
    moved = known & (sharp != log_depth)
    return np.where(moved, np.exp(sharp), depth).astype(np.float32)
