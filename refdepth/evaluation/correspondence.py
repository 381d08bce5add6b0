"""Where the truth meets the scene: true pixels in the undistorted photos, scale and alignment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import InputError
from refdepth.evaluation.alignment import Alignment, robust_sim3
from refdepth.evaluation.ground_truth import GroundTruth, TrueDepth
from refdepth.geometry.lens import InputPhoto, undistorted_pixels
from refdepth.types.camera import PinholeCamera, camera_center, invert_pose, transform
from refdepth.types.scene import Scene, View

Array = NDArray[np.float64]

LEAST_PAIRS = 5  # SfM points a view must see to speak for the scale
ASPECT_TOLERANCE = 0.01


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Truth units per scene unit, and where that comes from."""

    method: str
    """`points`: median ratio of true depth and depth at SfM points; `given`."""
    value: float
    pairs: int = 0
    """SfM points used."""
    spread: float = float("nan")
    """Median relative deviation of the single ratios."""

    def describe(self) -> str:
        """One sentence saying what was done."""
        if self.method == "given":
            return f"one scale for the scene, {self.value:.5g}, as given"
        return (
            f"one scale for the scene, {self.value:.5g}, the median over {self.pairs} SfM points "
            f"(their median deviation {self.spread:.2%})"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class TruePixels:
    """Known true pixels of one view that fall into its undistorted photo."""

    depth: Array
    """True depth (N,), truth units."""
    row: NDArray[np.intp]
    """Row of the undistorted photo (N,)."""
    column: NDArray[np.intp]
    """Column of the undistorted photo (N,)."""
    at: tuple[NDArray[np.intp], NDArray[np.intp]]
    """Rows and columns (N,) in the truth's own grid."""


def true_pixels(view: View, truth: TrueDepth, photo: InputPhoto | None = None) -> TruePixels:
    """Carries each known true pixel along its ray into the undistorted photo.

    Rays come from the truth's `K`; without it the truth lies in the grid of the input photo
    (`photo` gives its lens; without that, the lens is taken as free of distortion) or, where it
    says so, in that of the undistorted one.

    Raises `InputError` when the truth's aspect ratio is not the photo's.
    """
    rows, columns, z = truth.pixels()
    xy = np.stack([columns + 0.5, rows + 0.5], axis=1)
    if truth.K is not None:
        pixels, _ = view.camera.project(truth.camera().rays(xy))
    else:
        pixels = _same_grid(view, truth, xy, None if truth.undistorted else photo)
    inside = view.camera.contains(pixels)
    index = np.floor(pixels[inside]).astype(np.intp)
    return TruePixels(
        depth=z[inside],
        row=index[:, 1],
        column=index[:, 0],
        at=(rows[inside], columns[inside]),
    )


def _same_grid(view: View, truth: TrueDepth, xy: Array, photo: InputPhoto | None) -> Array:
    height, width = truth.depth.shape
    size = (view.camera.width, view.camera.height) if photo is None else (photo.width, photo.height)
    if abs((width / height) / (size[0] / size[1]) - 1) > ASPECT_TOLERANCE:
        raise InputError(
            f"true depth is {width}x{height}, the photo {size[0]}x{size[1]}.",
            subject=view.name if photo is None else photo.name,
            action="Give truth in the photo's grid, or with its own K.",
        )
    xy = xy * np.array([size[0] / width, size[1] / height])
    return xy if photo is None else undistorted_pixels(view.camera, photo, xy)


def scale_from_points(
    scene: Scene, truth: GroundTruth, photos: Mapping[str, InputPhoto] | None = None
) -> Scale:
    """Median over all observed SfM points of true depth / depth.

    Raises `InputError` when no point falls on known truth.
    """
    truth = truth.of(scene)
    ratios = []
    for view in scene.views:
        depth = truth.load(view.name)
        if depth is not None and len(view.point_index) >= LEAST_PAIRS:
            _, z, true, _ = _pairs(scene, view, depth, (photos or {}).get(view.name))
            ratios.append(true / z)
    every = np.concatenate(ratios) if ratios else np.zeros(0)
    if every.size < LEAST_PAIRS:
        raise InputError(
            "no SfM point falls on known true depth, so the scale cannot be found.",
            subject=truth.subject,
            action="Check that the ground truth belongs to these photos and lies in their grid.",
        )
    value = float(np.median(every))
    spread = float(np.median(np.abs(every / value - 1)))
    return Scale(method="points", value=value, pairs=every.size, spread=spread)


def align_by_points(scene: Scene, truth: GroundTruth) -> Alignment:
    """Similarity from the SfM points and the true points at their pixels.

    Raises `InputError` when the truth has no poses or too few points fall on it.
    """
    truth = truth.of(scene)
    source: list[Array] = []
    target: list[Array] = []
    for view in scene.views:
        depth = truth.load(view.name)
        if depth is None or depth.cam_from_world is None or depth.K is None:
            continue
        index, _, true, xy = _pairs(scene, view, depth, None)
        world_from_cam = invert_pose(depth.cam_from_world)
        source.append(scene.points.xyz[index])
        target.append(transform(world_from_cam, depth.camera().unproject(true, xy)))
    return _aligned(source, target, "points", truth)


def align_by_poses(scene: Scene, truth: GroundTruth) -> Alignment:
    """Similarity from the camera centres. Raises `InputError` with fewer than three poses or all
    on one line."""
    truth = truth.of(scene)
    source: list[Array] = []
    target: list[Array] = []
    for view in scene.views:
        depth = truth.load(view.name)
        if depth is not None and depth.cam_from_world is not None:
            source.append(view.center[None])
            target.append(camera_center(depth.cam_from_world)[None])
    return _aligned(source, target, "poses", truth)


def _aligned(
    source: list[Array], target: list[Array], method: str, truth: GroundTruth
) -> Alignment:
    try:
        return robust_sim3(
            np.concatenate([np.zeros((0, 3)), *source]),
            np.concatenate([np.zeros((0, 3)), *target]),
            method=method,
        )
    except ValueError as error:
        raise InputError(
            f"cannot be aligned by {method} ({error}).",
            subject=truth.subject,
            action="It needs K and cam_from_world for at least three views.",
        ) from error


def _pairs(
    scene: Scene, view: View, truth: TrueDepth, photo: InputPhoto | None
) -> tuple[NDArray[np.int64], Array, Array, Array]:
    """Of the SfM points that `view` sees and that fall on known truth: row in the scene's points,
    depth, true depth and the truth's pixel (all N)."""
    index = view.point_index
    local = transform(view.cam_from_world, scene.points.xyz[index])
    height, width = truth.depth.shape
    if truth.K is not None:
        camera = truth.camera()
        xy, z = camera.project(local)
    else:
        xy, z = view.camera.project(local)
        if photo is not None and not truth.undistorted:
            from refdepth._pycolmap import pycolmap

            lens = pycolmap.Camera(
                model=photo.camera_model,
                width=photo.width,
                height=photo.height,
                params=list(photo.camera_params),
            )
            xy = np.asarray(lens.img_from_cam(local), dtype=np.float64).reshape(-1, 2)
            xy = xy * np.array([width / photo.width, height / photo.height])
        else:
            xy = xy * np.array([width / view.camera.width, height / view.camera.height])
        camera = PinholeCamera(K=np.eye(3), width=width, height=height)
    inside = (z > 0) & camera.contains(xy)
    index, xy, z = index[inside], xy[inside], z[inside]
    true = truth.depth[xy[:, 1].astype(np.intp), xy[:, 0].astype(np.intp)].astype(np.float64)
    ok = true > 0
    return index[ok], z[ok], true[ok], xy[ok]
