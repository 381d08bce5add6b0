"""The last step of `refine`: one curve of confidence for the scene, and the final maps under it.

The second round leaves the final item, with a confidence that its view alone can tell, and its
`Trust` in a folder of its own. When all views asked for are there, their evidence gives the curve,
and each final item is written again with the confidence that this states. Another selection of
views has another curve; the depth stays the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import InputError
from refdepth.geometry.grid import WorkGrid
from refdepth.pipeline.compact import CONFIDENCE, packed, stored_confidence
from refdepth.pipeline.files import hash_json
from refdepth.pipeline.items import ItemStore
from refdepth.pipeline.stage import Brief
from refdepth.pipeline.views import load_scene
from refdepth.pipeline.work import Cost, Desk
from refdepth.types.camera import PinholeCamera
from refdepth.types.scene import SparseDepth

if TYPE_CHECKING:
    from refdepth.refine.calibration import Calibration
    from refdepth.refine.refined_view import RefinedView

SECOND = "second"
EVIDENCE, DEPTH, CURVE = "evidence", "depth", "calibration"
"""In the record of a second round, its `Evidence` and what tells its depth apart; in a final one,
the curve it was made under."""
_SECONDS, _BYTES = 0.1, 64
"""Seconds of a core for a megapixel, bytes for a pixel of a photo."""


@dataclass(frozen=True, kw_only=True)
class Calibrating:
    """The final maps of a view, under the scene's curve."""

    brief: Brief
    cost: Cost
    curve: Calibration

    @classmethod
    def of(cls, brief: Brief, camera: PinholeCamera, curve: Calibration) -> Calibrating:
        """Of views with about this `camera`."""
        pixels = camera.width * camera.height
        return cls(
            brief=brief,
            cost=Cost(seconds=_SECONDS * pixels / 1e6, bytes=_BYTES * pixels),
            curve=curve,
        )

    def open(self, desk: Desk) -> Callable[[str], None]:
        """Loads the scene."""
        scene = load_scene(self.brief.workspace)
        final, second = self.brief.items(), self.brief.items(SECOND)

        def make(name: str) -> None:
            if is_made_under(self.curve, final, name):
                return
            found = second.arrays(name)
            grid = WorkGrid(photo=scene[name].camera, factor=second.record(name)["factor"])
            sure = self.curve.grown(found["order"], grid)
            sure *= found["usable"]
            depth = final.arrays(name)["depth"]
            arrays = {"depth": depth, CONFIDENCE: stored_confidence(sure)}
            final.write(name, arrays, {**final.record(name), CURVE: key_of(self.curve)})

        return make


def second_item(
    found: RefinedView, grid: WorkGrid, judges: SparseDepth
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Arrays and record of what the second round of a view says about confidence."""
    from refdepth.refine.calibration import Evidence
    from refdepth.refine.confidence import Trust

    trust = found.trust or Trust.none(grid.shape)
    evidence = Evidence.of(trust, grid, found.depth, judges)
    arrays = {**packed(order=trust.order), "usable": found.confidence > 0}
    return arrays, {EVIDENCE: evidence.to_dict(), "factor": grid.factor}


def is_refined(second: ItemStore, final: ItemStore, name: str) -> bool:
    """Whether the second round of a view is whole. The record of its final item may be that of the
    arrays before: a kill while its confidence was made anew leaves it so."""
    if not second.is_done(name) or final.is_done(name):
        return second.is_done(name)
    if not final.has_record(name):
        return False
    try:
        depth = final.arrays(name)["depth"]
    except (InputError, KeyError):
        return False
    return hash_array(depth) == second.record(name).get(DEPTH)


def hash_array(values: NDArray[Any]) -> str:
    """What tells arrays of one type apart."""
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()[:32]


def key_of(curve: Calibration) -> str:
    """What tells curves apart."""
    return hash_json(curve.to_dict())[:16]


def is_made_under(curve: Calibration, final: ItemStore, name: str) -> bool:
    """Whether the final item of a view is whole and holds the confidence of this curve."""
    return final.is_done(name) and final.record(name).get(CURVE) == key_of(curve)


def curve_of(second: ItemStore, names: Sequence[str]) -> tuple[Calibration, dict[str, Any]]:
    """The curve of a scene whose views' second rounds are done, and its summary: the curve itself,
    and how it stands at the judging points."""
    from refdepth.refine.calibration import WITHIN, Calibration, Evidence

    views = [Evidence.from_dict(second.record(name)[EVIDENCE]) for name in names]
    curve = Calibration.of(views)
    order = np.concatenate([view.order for view in views]) if views else np.zeros(0)
    error = np.concatenate([view.error for view in views]) if views else np.zeros(0)
    summary: dict[str, Any] = {**curve.to_dict(), "within": WITHIN}
    if len(order):
        from refdepth.evaluation.reliability import reliability

        stated = curve.apply(order.astype(np.float32))
        summary["at_points"] = reliability(error, stated, within=WITHIN)
    return curve, summary
