"""A room whose walls carry printed tags, reconstructed exactly in a unit of its own, and what a
finished run would have left of it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from exact_room import ExactRoom, make_exact_room, make_workspace
from numpy.typing import NDArray

from refdepth.ingest import PreparedPhoto
from refdepth.ingest.exif import GpsPosition
from refdepth.io.colmap import to_reconstruction
from refdepth.metric.frame import MetricFrame
from refdepth.metric.geodesy import Origin, geodetic_from_enu
from refdepth.metric.tags import tag_picture
from refdepth.pipeline.files import write_json
from refdepth.synthetic import SyntheticScene, make_scene
from refdepth.synthetic.view import SyntheticView
from refdepth.types.camera import invert_pose, transform

Array = NDArray[np.float64]

METRES = 0.4
"""Metres in a unit of the reconstruction."""
TAG_SIDE_M = 0.5
TAG_CENTER = np.array([-0.1, -0.55, 2.6])
"""Of the first tag, on the back wall, in the room's metres."""
TAG_STEP = np.array([0.8, 0, 0])
"""To the right of the next."""
ORIGIN = Origin(latitude_deg=47.3769, longitude_deg=8.5417, altitude_m=408.0)
EAST_NORTH_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
"""From the room's axes: x right, y down, z forward."""
_MARGIN = 0.25
_TEXELS = 160
_SAMPLES = 3


@cache
def photographed() -> SyntheticScene:
    """The room without tags."""
    return make_scene(views=4, width=320, height=240)


def tag_corners(center: Array = TAG_CENTER, side: float = TAG_SIDE_M) -> Array:
    """Corners (4, 3) of a tag on the back wall."""
    return center + side / 2 * np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])


def with_tag(
    view: SyntheticView, tag: int, center: Array = TAG_CENTER, side: float = TAG_SIDE_M
) -> SyntheticView:
    """A photo with a tag, and its white margin, on the back wall."""
    picture = tag_picture(tag, _TEXELS) / 255.0
    picture = np.pad(picture, round(_MARGIN * _TEXELS), constant_values=1.0)
    half, texels = (0.5 + _MARGIN) * side, len(picture)
    world_from_cam = invert_pose(view.cam_from_world)
    start = world_from_cam[:3, 3]
    painted, covered = np.zeros(view.camera.shape), np.zeros(view.camera.shape)
    steps = (np.arange(_SAMPLES) + 0.5) / _SAMPLES - 0.5
    for dx in steps:
        for dy in steps:
            pixels = view.camera.pixel_grid() + np.array([dx, dy])
            rays = view.camera.rays(pixels) @ world_from_cam[:3, :3].T
            z = (center[2] - start[2]) / rays[..., 2]
            hit = start + rays * z[..., None] - center
            inside = (np.abs(hit[..., :2]) < half).all(axis=-1) & (z <= 1.005 * view.depth)
            column, row = ((hit[..., i] / half + 1) / 2 * texels for i in (0, 1))
            index = np.clip(np.stack([row, column]).astype(int), 0, texels - 1)
            painted += np.where(inside, picture[tuple(index)], 0) * 0.85
            covered += inside
    share = _SAMPLES**2
    image = view.image * (1 - covered / share)[..., None] + (painted / share)[..., None]
    return replace(view, image=image.astype(np.float32))


def measured_room(folder: Path, tags: dict[int, tuple[int, ...]]) -> tuple[Path, ExactRoom]:
    """A workspace in `folder` whose photos show tags; `tags` gives the views that show each, side
    by side on the wall. Its unit is `METRES`. Returns it, and the room in that unit."""
    scene = photographed()
    views = list(scene.views)
    for place, (tag, shown) in enumerate(tags.items()):
        for number in shown:
            views[number] = with_tag(views[number], tag, TAG_CENTER - place * TAG_STEP)
    scene = replace(scene, views=tuple(views))
    room = make_exact_room(folder / "photos", scene)
    smaller = MetricFrame(scale=1 / METRES, rotation=np.eye(3), translation=np.zeros(3))
    room = ExactRoom(
        scene=smaller.scene(room.scene),
        depth={name: depth / np.float32(METRES) for name, depth in room.depth.items()},
        priors=room.priors,
    )
    root = make_workspace(folder / "out", room)
    complete(root, room)
    return root, room


def complete(root: Path, room: ExactRoom) -> None:
    """Adds to a finished workspace what pixels of photos are looked up by: the prepared photos,
    their table and the model with their lenses."""
    sparse, images = root / "sfm" / "sparse", root / "prepare" / "images"
    sparse.mkdir()
    images.mkdir()
    to_reconstruction(room.scene).write(str(sparse))
    for view in room.scene.views:
        shutil.copyfile(view.image_path, images / view.name)
    write_positions(root, room, {})


def write_positions(root: Path, room: ExactRoom, positions: dict[str, GpsPosition]) -> None:
    """The table of photos, with GPS positions by name."""
    rows = [
        PreparedPhoto(
            name=view.name,
            original=f"{Path(view.name).stem}.JPG",
            width=view.camera.width,
            height=view.camera.height,
            stored_width=view.camera.width,
            stored_height=view.camera.height,
            position=positions.get(view.name),
        )
        for view in room.scene.views
    ]
    write_json(root / "prepare" / "table.json", {"photos": [row.to_dict() for row in rows]})


def positions_of(
    centers: dict[str, Array], *, noise_m: float = 0.0, seed: int = 0
) -> dict[str, GpsPosition]:
    """What GPS says of camera centres in the room's axes, metres."""
    rng = np.random.default_rng(seed)
    out = {}
    for name, center in centers.items():
        enu = EAST_NORTH_UP @ center + noise_m * rng.normal(size=3)
        latitude, longitude, altitude = geodetic_from_enu(enu, ORIGIN).tolist()
        out[name] = GpsPosition(latitude_deg=latitude, longitude_deg=longitude, altitude_m=altitude)
    return out


def pixel_of(room: ExactRoom, name: str, point: Array) -> tuple[float, float]:
    """Where a view shows a point of the room, given in metres."""
    view = room.scene[name]
    xy, _ = view.camera.project(transform(view.cam_from_world, point / METRES))
    return float(xy[0]), float(xy[1])
