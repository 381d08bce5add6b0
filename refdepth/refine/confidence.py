"""How sure a depth is, from what is measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from refdepth.matching.confidence import photometric_confidence
from refdepth.matching.cost import Comparison
from refdepth.refine.settings import RefineSettings
from refdepth.refine.transfer import Transferred, agreement, disagreement

Map = NDArray[np.float32]
CLOSE, NEAR, APART = 0.01, 0.02, 0.05
"""Differences of log depth: half agreement, half agreement of sure pixels, contradiction."""
HALF_SUPPORT = 3.0
"""Sum of agreements at which a depth is half sure."""
EDGE_WINDOW_PX = 7
"""Window on the working grid in which a depth step makes a pixel unsure."""
EDGE_FALL, CONTRADICTION_FALL, HIDDEN_FALL = 3.0, 3.0, 1.0
"""How fast confidence falls with a depth step, with the share of neighbours that look through the
surface, and with the share that see something in front of it (which may be true)."""


def view_confidence(
    comparison: Comparison, depth: Map, transferred: Transferred, settings: RefineSettings
) -> Map:
    """Confidence (H, W) in [0, 1] of final `depth` (working grid).

    Neighbours whose depth agrees and the photometric match add up to support; depth steps close
    by, and neighbours that look through the surface, take away. Checked by sparsification: the
    constants order pixels, they are no probabilities.
    """
    zncc = 1 - comparison.cost(depth, settings.match.best_sources)
    sure = np.maximum(transferred.confidence, settings.consistency.least_confidence)
    support = (
        agreement(transferred, depth, CLOSE)
        + agreement(transferred, depth, NEAR, weights=sure)
        + photometric_confidence(zncc, comparison.windows.texture)
    )
    behind, before = disagreement(transferred, depth, APART)
    known = depth > 0
    log_depth = np.log(np.where(known, depth, np.median(depth[known]) if known.any() else 1.0))
    step = ndimage.maximum_filter(log_depth, EDGE_WINDOW_PX) - ndimage.minimum_filter(
        log_depth, EDGE_WINDOW_PX
    )
    doubt = EDGE_FALL * step + CONTRADICTION_FALL * behind + HIDDEN_FALL * before
    confidence = support / (HALF_SUPPORT + support) * np.exp(-doubt)
    return np.where(known & comparison.view.usable, confidence, 0).astype(np.float32)
