"""The last bundle adjustment: matches that are beside their place have no say in it.

Mappers keep what lies within some pixels and minimise squares, so that each of the worst matches
kept moves the cameras as much as hundreds of good ones. Where little holds cameras in place, as
along a street, that bends the whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from refdepth._pycolmap import pycolmap
from refdepth.sfm.adjustment import adjust
from refdepth.sfm.rigs import rigid

LOSS_SCALES = 0.5, 0.5, 1.0
"""Of the Cauchy loss, over the median error, in each round. Narrow ones get out of a bend that
wrong matches hold; of what is left a wider one makes more, as most of its noise is Gaussian."""
ITERATIONS = 50
"""Of a round. More would follow a bend whose matches the round after leaves out."""
FAR_OFF, LEFT_OUT = 10.0, 5.0
"""Over the median error: what is left out before the first round, and after each."""
LEAST_ANGLE_DEG = 0.5
"""Points seen under less are left out as well: they lie anywhere along their rays."""


def settle(folder: Path, *, threads: int) -> Any:
    """The model in `folder` after robust bundle adjustment, written back, without the observations
    that lie far off. Principal points that are not in the picture's centre are free; where there
    are any, cameras with theirs in the centre keep their intrinsics.

    The model as it was where nothing can be adjusted: without points, or where that leads nowhere.
    """
    model = pycolmap.Reconstruction(folder)
    free = _shifted(model)
    _leave_out(model, FAR_OFF)
    for scale in LOSS_SCALES:
        loss = scale * _median_error(model)
        if not loss > 0:
            return pycolmap.Reconstruction(folder)
        adjust(
            model,
            model.reg_image_ids(),
            threads=threads,
            principal_points=bool(free),
            fixed_cameras=set(model.cameras) - free if free else (),
            loss_px=loss,
            iterations=ITERATIONS,
        )
        if not np.isfinite(_median_error(model)):
            return pycolmap.Reconstruction(folder)
        _leave_out(model, LEFT_OUT)
    model.update_point_3d_errors()
    model.write(folder)
    return model


def _shifted(model: Any) -> set[int]:
    """Cameras whose principal point is not in the picture's centre."""
    _, faces = rigid(model.rigs.values())
    return {
        number
        for number, camera in model.cameras.items()
        if number not in faces
        and (camera.principal_point_x, camera.principal_point_y)
        != (camera.width / 2, camera.height / 2)
    }


def _leave_out(model: Any, errors: float) -> None:
    """Removes the observations that lie more than so many median errors off, and the points that
    too few are left of."""
    observations = pycolmap.ObservationManager(model)
    observations.filter_observations_with_negative_depth()
    observations.filter_all_points3D(errors * _median_error(model), LEAST_ANGLE_DEG)


def _median_error(model: Any) -> float:
    """Of the points' mean reprojection errors, pixels; 0 without points."""
    model.update_point_3d_errors()
    return float(np.median([point.error for point in model.points3D.values()] or [0.0]))
