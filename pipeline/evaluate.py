"""A workspace against the truth: depth of every stage, confidence, cloud, camera centres."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import InputError
from refdepth.pipeline.results import Results
from refdepth.pipeline.views import input_photos
from refdepth.pipeline.workspace import Workspace
from refdepth.types.camera import camera_center
from refdepth.types.depth_map import DepthMap

Progress = Callable[[str, float, float | None], None]


def evaluate_workspace(
    workspace: Workspace,
    truth: Path | None,
    *,
    distances: Sequence[float] | None = None,
    use_icp: bool = True,
    png_scale: float = 0.001,
    metres_per_unit: float | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """What `refdepth evaluate` prints, as plain JSON values: `depth`, `cloud`, `cameras`, each
    where `truth` allows it; `points`: the confidence at the SfM points left out, without a `truth`
    or beside true depth.

    `truth` is a folder of depth maps (see `open_ground_truth`), a reference
    cloud (`.ply`, in the cloud's own frame), or a JSON file with `cam_from_world` by photo.
    `distances` are those of the cloud's precision and recall, in the truth's unit.

    Raises `InputError` when the truth fits nothing here.
    """
    results = Results(workspace)
    at_points = results.calibration().get("at_points")
    if truth is None:
        if not at_points:
            raise InputError(
                "holds no SfM points that judge the confidence.",
                subject=workspace.root,
                action="Finish the stage refine, or give --ground-truth.",
            )
        return {"points": at_points}
    if truth.suffix.lower() == ".json":
        return {"cameras": _cameras(results, truth)}
    if truth.is_file():
        return {"cloud": _against_cloud(results, truth, distances, use_icp)}
    found = _against_depth(results, truth, distances, use_icp, png_scale, metres_per_unit, progress)
    if at_points:
        found["points"] = at_points
    return found


def _against_depth(
    results: Results,
    folder: Path,
    distances: Sequence[float] | None,
    use_icp: bool,
    png_scale: float,
    metres_per_unit: float | None,
    progress: Progress | None,
) -> dict[str, Any]:
    from refdepth.evaluation.cloud import evaluate_cloud, true_cloud
    from refdepth.evaluation.correspondence import align_by_points
    from refdepth.evaluation.depth import evaluate_depth
    from refdepth.evaluation.ground_truth import open_ground_truth

    truth = open_ground_truth(
        folder, results.names, png_scale=png_scale, metres_per_unit=metres_per_unit
    )
    scene = results.scene
    photo_of = input_photos(results.workspace)
    photos = {view.name: photo_of(view) for view in scene.views}
    stages = {name: load for name, load in _loaders(results).items() if load is not None}

    def report(done: int, total: int) -> None:
        if progress is not None:
            progress("comparing depth", done, total)

    found: dict[str, Any] = {
        "depth": evaluate_depth(scene, stages, truth, photos=photos, progress=report)
    }
    posed = truth.load(next(name for name in scene.names if truth.find(name)))
    if results.cloud_path.is_file() and posed is not None and posed.cam_from_world is not None:
        if progress is not None:
            progress("comparing clouds", 0, None)
        distances = distances or (0.02, 0.05)
        reference = true_cloud(scene, truth, min(distances) / 2)
        found["cloud"] = evaluate_cloud(
            _cloud(results),
            reference,
            alignment=align_by_points(scene, truth),
            distances=distances,
            use_icp=use_icp,
        )
    return found


def _loaders(
    results: Results,
) -> Mapping[str, Callable[[str], NDArray[np.float32] | DepthMap | None] | None]:
    """How each stage's depth is read, or None for stages without any."""
    scaled, refined = set(results.views("scale")), set(results.views("refine"))
    fused = set(results.views("fuse"))
    return {
        "scaled": (lambda name: results.scaled(name) if name in scaled else None)
        if scaled
        else None,
        "refined": (lambda name: results.refined(name) if name in refined else None)
        if refined
        else None,
        "fused": (lambda name: results.fused(name) if name in fused else None) if fused else None,
    }


def _against_cloud(
    results: Results, path: Path, distances: Sequence[float] | None, use_icp: bool
) -> dict[str, Any]:
    from refdepth.evaluation.cloud import evaluate_cloud
    from refdepth.io.ply import read_ply_points

    return evaluate_cloud(
        _cloud(results), read_ply_points(path), distances=distances or (0.02, 0.05), use_icp=use_icp
    )


def _cloud(results: Results) -> NDArray[np.float64]:
    from refdepth.io.ply import read_ply_points

    if not results.cloud_path.is_file():
        raise InputError(
            "there is no cloud yet.",
            subject=results.cloud_path,
            action="Run `refdepth reconstruct` to the end.",
        )
    return read_ply_points(results.cloud_path)


def _pose(stored: Any) -> NDArray[np.float64]:
    pose = np.asarray(stored, dtype=np.float64)
    if pose.shape not in ((3, 4), (4, 4)) or not np.isfinite(pose).all():
        raise ValueError(f"a pose of shape {pose.shape} is not 4x4 finite numbers")
    return pose


def _cameras(results: Results, path: Path) -> dict[str, Any]:
    """Distances of the camera centres from true ones after a Sim3, in the truth's unit."""
    from refdepth.evaluation.alignment import robust_sim3

    try:
        stored = json.loads(path.read_text())
        true = {name: _pose(row["cam_from_world"]) for name, row in stored.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(
            f"holds no camera poses that can be read ({error}).",
            subject=path,
            action='Give {"photo.jpg": {"cam_from_world": 4x4}, ...}.',
        ) from error
    scene = results.scene
    pairs = {view: true[name] for name, view in results.names.match(true).items() if view in scene}
    centers = np.array([scene[name].center for name in pairs]).reshape(-1, 3)
    targets = np.array([camera_center(pose) for pose in pairs.values()]).reshape(-1, 3)
    try:
        alignment = robust_sim3(centers, targets, method="poses")
    except ValueError as error:
        raise InputError(
            f"cannot be compared with: {error}.",
            subject=path,
            action="At least three photos, not on one line, must have a true pose.",
        ) from error
    errors = np.linalg.norm(alignment.apply(centers) - targets, axis=1)
    return {
        "alignment": alignment.to_dict(),
        "of": len(true),
        "placed": len(pairs),
        "median": float(np.median(errors)),
        "max": float(np.max(errors)),
        "by_view": dict(zip(map(results.names.own, pairs), errors.tolist(), strict=True)),
    }
