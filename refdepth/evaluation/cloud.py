"""Clouds against a reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import InputError
from refdepth.evaluation import metrics
from refdepth.evaluation.alignment import Alignment, icp, no_alignment
from refdepth.evaluation.ground_truth import GroundTruth
from refdepth.types.scene import Scene

Array = NDArray[np.float64]

CROP = 4.0  # the reference reaches this many times the largest distance
SPACING = 0.5  # both clouds are thinned to this share of the smallest distance
ICP_STEPS = (1.0, 0.6)  # matching distances, shares of the largest distance


def evaluate_cloud(
    cloud: NDArray[np.floating],
    reference: NDArray[np.floating],
    *,
    alignment: Alignment | None = None,
    distances: Sequence[float] = (0.02, 0.05),
    spacing: float | None = None,
    crop: float | None = None,
    use_icp: bool = True,
) -> dict[str, Any]:
    """Precision, recall and F of a cloud (N, 3) against a reference (M, 3), as plain JSON values.

    Lengths are in the reference's unit. `alignment` (default: none) comes first; with `use_icp`,
    ICP with scale follows. Both clouds are thinned to `spacing` (default: half the smallest
    distance); points further than `crop` (default: four times the largest distance) from the
    reference are out of its reach and not judged. `tanks_and_temples` holds the same with that
    benchmark's thinning and no crop. What was done stands under `alignment`, `spacing`, `crop`.

    Raises `InputError` for an empty cloud, values that are no numbers, or bad distances.
    """
    for name, points in (("cloud", cloud), ("reference cloud", reference)):
        if len(points) == 0 or not np.isfinite(points).all():
            raise InputError("is empty or holds values that are no numbers.", subject=name)
    if not distances or not min(distances) > 0:
        raise InputError(f"{list(distances)} must be positive lengths.", subject="distances")
    spacing = SPACING * min(distances) if spacing is None else spacing
    crop = CROP * max(distances) if crop is None else crop
    done = no_alignment() if alignment is None else alignment
    true = metrics.thin(reference, spacing)
    moved = done.apply(cloud)
    if use_icp:
        steps = [share * max(distances) for share in ICP_STEPS]
        step = icp(metrics.thin(moved, spacing), true, steps)
        done, moved = done.followed_by(step), step.apply(moved)
    return {
        "scores": metrics.cloud_scores(
            moved, true, distances=distances, spacing=spacing, crop=crop
        ),
        "tanks_and_temples": {
            f"{d:g}": metrics.tanks_and_temples_f(moved, reference, d) for d in distances
        },
        "alignment": done.to_dict(),
        "distances": list(distances),
        "spacing": spacing,
        "crop": crop,
    }


def true_cloud(scene: Scene, truth: GroundTruth, spacing: float) -> Array:
    """All true depth of the scene's views as one cloud (N, 3) in the truth's world and unit,
    thinned to `spacing`. Raises `InputError` when no true depth has calibration and pose."""
    truth = truth.of(scene)
    parts = []
    for view in scene.views:
        depth = truth.load(view.name)
        if depth is not None and depth.K is not None and depth.cam_from_world is not None:
            parts.append(metrics.thin(depth.points(), spacing))
    if not any(len(part) for part in parts):
        raise InputError(
            "has no depth with calibration and pose, so it makes no cloud.",
            subject=truth.subject,
            action="Give a reference cloud.",
        )
    return metrics.thin(np.concatenate(parts), spacing)
