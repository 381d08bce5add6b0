"""Bundle adjustment of whole models."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from refdepth._pycolmap import pycolmap
from refdepth.sfm.rigs import rigid


def adjust(
    model: Any,
    images: Sequence[int],
    *,
    threads: int,
    principal_points: bool = False,
    fixed_cameras: Collection[int] = (),
    loss_px: float | None = None,
    iterations: int | None = None,
) -> None:
    """Bundle adjustment of everything in a `pycolmap.Reconstruction` but the intrinsics of the
    `fixed_cameras` and those of panoramas, whose rigs are not touched either. Principal points are
    free only where asked for. `images` are the ids of all that are placed; the last bits of the
    result depend on their order. With `loss_px`, the scale of a Cauchy loss, errors of many times
    as much hardly count; else squares are minimised. `iterations` are the most that are made."""
    options = pycolmap.BundleAdjustmentOptions()
    options.refine_principal_point = principal_points
    options.refine_sensor_from_rig = False
    options.print_summary = False
    options.ceres.use_gpu = False
    if loss_px is not None:
        options.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
        options.ceres.loss_function_scale = loss_px
    options.ceres.solver_options.num_threads = threads
    if iterations is not None:
        options.ceres.solver_options.max_num_iterations = iterations
    config = pycolmap.BundleAdjustmentConfig()
    for image_id in images:
        config.add_image(image_id)
    used = {model.image(image_id).camera_id for image_id in images}
    _, faces = rigid(model.rigs.values())
    for camera in (faces | set(fixed_cameras)) & used:
        config.set_constant_cam_intrinsics(camera)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    pycolmap.create_default_bundle_adjuster(options, config, model).solve()
