"""Cameras and points seen from above."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from refdepth.ingest import NameTable
from refdepth.pipeline.report.thumbnails import png
from refdepth.types.scene import Scene

_SIZE_PX = 640
MAX_POINTS = 400_000
"""Points that are drawn."""
_MAX_CAMERAS = 300
"""More are drawn as dots, without what they look at and their names."""
Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Camera:
    """One camera on the map, in map pixels."""

    name: str
    x: float
    y: float
    outline: str
    """Its field of view, as points of an SVG polygon."""


@dataclass(frozen=True, kw_only=True)
class Overview:
    """The map: a picture of the points and the cameras over it."""

    picture: Markup
    width: int
    height: int
    cameras: tuple[Camera, ...]
    """Empty where there are too many for more than a dot each."""
    dots: str
    """The others, those in doubt apart, as SVG paths."""
    doubtful_dots: str
    count: int
    """Number of cameras."""
    drawn: int
    """Number of points in the picture."""
    points: int
    """Number of points in all."""


def draw_overview(
    scene: Scene,
    points: Array,
    colors: NDArray[np.uint8],
    names: NameTable | None = None,
    *,
    total: int | None = None,
    doubtful: Collection[str] = (),
) -> Overview | None:
    """The scene's cameras with `points` (N, 3) of `colors` (N, 3) below them, drawn against the
    mean up direction of the cameras. None without points.

    `names` has the photos' own names; `total` is the number of points that these are a sample of;
    the views `doubtful` are marked where cameras are dots.
    """
    names = names or NameTable({})
    if len(points) == 0:
        return None
    total = total or len(points)
    if total > MAX_POINTS:
        rows = np.linspace(0, len(points) - 1, MAX_POINTS).astype(int)
        points, colors = points[rows], colors[rows]
    axes = map_axes(scene)
    flat = points @ axes[:2].T
    centers = np.array([view.center for view in scene.views]) @ axes[:2].T
    # A few far points must not shrink the rest to a dot; the cameras always show.
    low, high = np.quantile(flat, [0.01, 0.99], axis=0)
    low, high = np.minimum(low, centers.min(axis=0)), np.maximum(high, centers.max(axis=0))
    margin = 0.06 * max(float((high - low).max()), 1e-9)
    low, high = low - margin, high + margin
    scale = _SIZE_PX / float((high - low).max())
    width, height = (max(1, round(v)) for v in (high - low) * scale)

    def place(xy: Array) -> Array:
        return (xy - low) * scale

    # Roofs and ceilings would hide the rest: the highest tenth of the points is left out.
    up = points @ axes[2]
    keep = up <= np.quantile(up, 0.9)
    picture = _paint(place(flat[keep]), colors[keep], width, height)
    spots = place(centers)
    many = len(scene) > _MAX_CAMERAS
    apart = np.array([view.name in doubtful for view in scene.views], bool)
    return Overview(
        picture=png(picture),
        width=width,
        height=height,
        cameras=() if many else _cameras(scene, spots, axes, names),
        dots=_dots(spots[~apart]) if many else "",
        doubtful_dots=_dots(spots[apart]) if many else "",
        count=len(scene),
        drawn=len(points),
        points=total,
    )


def _dots(spots: Array) -> str:
    return "".join(f"M{x:.1f} {y:.1f}h0" for x, y in spots)


def _cameras(scene: Scene, spots: Array, axes: Array, names: NameTable) -> tuple[Camera, ...]:
    reach = 0.05 * _SIZE_PX
    cameras = []
    for view, (x, y) in zip(scene.views, spots, strict=True):
        half = view.camera.width / 2 / view.camera.K[0, 0]
        rays = np.array([[-half, 0, 1], [half, 0, 1]]) @ view.cam_from_world[:3, :3] @ axes[:2].T
        ends = [(x + reach * ray[0], y + reach * ray[1]) for ray in rays]
        corners = [(x, y), *ends]
        cameras.append(
            Camera(
                name=names.own(view.name),
                x=round(float(x), 1),
                y=round(float(y), 1),
                outline=" ".join(f"{a:.1f},{b:.1f}" for a, b in corners),
            )
        )
    return tuple(cameras)


def map_axes(scene: Scene) -> Array:
    """World directions (3, 3) of the map's right, down and out of the map (up).

    Up is the mean of the cameras' up; right is the direction in which the cameras spread most.
    """
    up = -np.sum([view.cam_from_world[1, :3] for view in scene.views], axis=0)
    if np.linalg.norm(up) < 1e-6 * len(scene):
        up = -scene.views[0].cam_from_world[1, :3]
    up = up / np.linalg.norm(up)
    centers = np.array([view.center for view in scene.views])
    spread = centers - centers.mean(axis=0)
    spread = spread - np.outer(spread @ up, up)
    right = np.linalg.svd(spread, full_matrices=False)[2][0]
    right = right - (right @ up) * up
    if np.linalg.norm(right) < 1e-9:
        right = np.linalg.svd(up[None])[2][1]
    right = right / np.linalg.norm(right)
    down = np.cross(right, up)
    looking = np.sum([view.cam_from_world[2, :3] for view in scene.views], axis=0)
    # Most cameras look up the page.
    if looking @ down > 0:
        right, down = -right, -down
    return np.stack([right, down, up])


def _paint(xy: Array, colors: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Mean colour of the points in each pixel (height, width, 4), denser ones more opaque."""
    column, row = np.floor(xy).astype(int).T
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    cell = row[inside] * width + column[inside]
    count = np.bincount(cell, minlength=width * height)
    picture = np.zeros((height * width, 4), np.uint8)
    seen = count > 0
    for channel in range(3):
        total = np.bincount(cell, colors[inside, channel], minlength=width * height)
        picture[seen, channel] = (total[seen] / count[seen]).astype(np.uint8)
    dense = float(np.quantile(count[seen], 0.8)) if seen.any() else 1.0
    picture[seen, 3] = (90 + 165 * np.minimum(count[seen] / max(dense, 1.0), 1)).astype(np.uint8)
    return picture.reshape(height, width, 4)
