"""How sure a depth is, from what is measured: an order of the pixels, and a first guess at the
chance that each is right. `calibration` makes the confidence of a scene from both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refdepth.arrays import Array, at_least, at_most, median_of, namespace
from refdepth.geometry.filters import maximum_filter, minimum_filter
from refdepth.matching.confidence import photometric_confidence
from refdepth.matching.cost import Comparison
from refdepth.refine.settings import RefineSettings
from refdepth.refine.transfer import Transferred, agreement, disagreement

CLOSE, NEAR, APART = 0.01, 0.02, 0.05
"""Differences of log depth: half agreement, half agreement of sure pixels, contradiction."""
HALF_SUPPORT = 3.0
"""Sum of agreements at which a depth is half sure."""
EDGE_WINDOW_PX = 7
"""Window on the working grid in which a depth step makes a pixel unsure."""
EDGE_FALL, CONTRADICTION_FALL, HIDDEN_FALL = 3.0, 3.0, 1.0
"""How fast sureness falls with a depth step, with the share of neighbours that look through the
surface, and with the share that see something in front of it (which may be true)."""
CHANCE = {"offset": 3.93, "agreeing": 0.71, "match": 0.58, "neighbours": -0.71, "doubt": -0.33}
"""Log odds that a depth lies within 3 % of the truth: a logistic regression over the pixels of
three synthetic scenes with exact depth (a textured room, plain walls, thin things; priors wrong
smoothly and object by object), each with equal weight. Many neighbours that look and do not agree
say more against a depth than none that look."""
LEAST_AGREEING, LEAST_MATCH, MOST_DOUBT = 0.03, 0.05, 3.0
LEAST_ORDER = 1e-6
"""Order of a known depth that nothing supports: not that of an unknown one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trust:
    """What is measured about the depth of one view, on its working grid (h, w)."""

    order: Array
    """In [0, 1): the larger, the surer; by itself no probability. 0 where the depth is unknown."""
    chance: Array
    """Guess at the chance that the depth lies within 3 % of the truth; 0 where it is unknown."""

    @classmethod
    def none(cls, shape: tuple[int, int]) -> Trust:
        """Of a view about whose depth nothing is known."""
        return cls(order=np.zeros(shape, np.float32), chance=np.zeros(shape, np.float32))


def view_trust(
    comparison: Comparison, depth: Array, transferred: Transferred, settings: RefineSettings
) -> Trust:
    """Trust in final `depth` (h, w; working grid).

    Neighbours whose depth agrees and the photometric match add up to support; depth steps close
    by, and neighbours that look through the surface, take away. The order is checked by
    sparsification, the chance by its calibration.
    """
    zncc = 1 - comparison.cost(depth, settings.match.best_sources)
    match = photometric_confidence(zncc, comparison.windows.texture)
    xp = namespace(depth)
    sure = at_least(transferred.confidence, settings.consistency.least_confidence)
    agreeing = agreement(transferred, depth, NEAR, weights=sure)
    support = agreement(transferred, depth, CLOSE) + agreeing + match
    behind, before = disagreement(transferred, depth, APART)
    known = depth > 0
    log_depth = xp.log(xp.where(known, depth, median_of(depth, known)))
    step = maximum_filter(log_depth, EDGE_WINDOW_PX) - minimum_filter(log_depth, EDGE_WINDOW_PX)
    doubt = EDGE_FALL * step + CONTRADICTION_FALL * behind + HIDDEN_FALL * before
    order = at_least(support / (HALF_SUPPORT + support) * xp.exp(-doubt), LEAST_ORDER)
    seen_by = xp.sum((transferred.depth > 0) & known, axis=0)
    odds = (
        CHANCE["offset"]
        + CHANCE["agreeing"] * xp.log(agreeing + LEAST_AGREEING)
        + CHANCE["match"] * xp.log(match + LEAST_MATCH)
        + CHANCE["neighbours"] * xp.log(seen_by + 1.0)
        + CHANCE["doubt"] * at_most(doubt, MOST_DOUBT)
    )
    usable = known & comparison.view.usable
    return Trust(
        order=xp.astype(xp.where(usable, order, 0.0), xp.float32),
        chance=xp.astype(xp.where(usable, 1 / (1 + xp.exp(-odds)), 0.0), xp.float32),
    )
