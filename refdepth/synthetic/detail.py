"""A wall with fine detail: bars of known widths before it and relief of known heights on it, for
what large photos show and small ones do not.

World axes as the cameras': x right, y down, z forward; units are metres. The wall is at z = 3 m.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from refdepth.synthetic import tracer
from refdepth.synthetic.rooms import Material, World, WorldBuilder
from refdepth.synthetic.scene import SyntheticScene, photo_bytes, pinhole, taken_from
from refdepth.synthetic.view import SyntheticView
from refdepth.types.camera import PinholeCamera, invert_pose
from refdepth.types.scene import in_unit_range

WALL_M = 3.0
BARS_M = 2.6
"""Where the bars hang."""
WIDTHS_MM = 1.5, 2.5, 4.0, 6.0, 10.0, 16.0, 25.0
"""Of the bars."""
HEIGHTS_MM = 4.0, 8.0, 16.0
"""Of the relief."""
SIDES_MM = 12.0, 24.0, 48.0
"""Widths of its ridges, and of the gaps between them."""
_PATCH_M = 0.3
_SENSOR_NOISE = 1.2 / 255
_PLACES = ((-0.32, -0.12), (0.02, -0.16), (0.34, -0.1), (-0.3, 0.17), (-0.02, 0.13), (0.31, 0.16))
"""Of the cameras (x, y), metres."""
_TILE = 252
"""Side of the parts of a picture that are traced with the bodies in sight alone."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A bar before the wall."""

    width: float
    """Metres."""
    surface: int
    """Its id in the views' `surface`."""


@dataclass(frozen=True, kw_only=True)
class Relief:
    """A board on the wall with ridges on it."""

    height: float
    """Of the ridges, metres."""
    side: float
    """Width of a ridge and of a gap, metres."""
    surfaces: tuple[int, int]
    """Ids of board and ridges in the views' `surface`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Detail:
    """The wall, its photos, and what there is to resolve."""

    scene: SyntheticScene
    bars: tuple[Bar, ...]
    reliefs: tuple[Relief, ...]
    smooth: tuple[int, ...]
    """Surface ids of large things without detail."""
    flat: World
    """The same without ridges."""

    def base_depth(self, view: SyntheticView) -> NDArray[np.float32]:
        """Depth (H, W) that `view` would see without the ridges."""
        return _depth(self.flat, view.camera, invert_pose(view.cam_from_world))[0]


def make_detail(seed: int = 0, views: int = 6, width: int = 4032, height: int = 3024) -> Detail:
    """Photos of the wall from at most six places; the same arguments give the same scene, and all
    sizes show the same."""
    rng = np.random.default_rng([seed, 17])
    builder = WorldBuilder(rng)
    room, wall = _finish(rng), _finish(rng)
    builder.add(
        tracer.BOX, (0, 0, 0.5), (3.2, 2.2, WALL_M - 0.5), (room, room, room, room, room, wall)
    )
    smooth = [5]
    for shape, center, half in (
        (tracer.SPHERE, (-0.95, 0.78, 2.75), (0.25, 0.25, 0.25)),
        (tracer.CYLINDER, (-0.35, 0.8, 2.8), (0.18, 0.3, 0.18)),
    ):
        smooth.append(builder.surface_count)
        builder.add(shape, center, half, _finish(rng))
    bars = tuple(_hang_bars(builder))
    boards = len(builder.bodies)
    reliefs, ridges = _mount_reliefs(builder)
    world = replace(builder.world(), light=np.array([1.5, -1.4, -1.0]))
    camera = pinhole(width, height)
    taken = []
    for index, (x, y) in enumerate(_PLACES[:views]):
        pose = taken_from(
            np.array([x, y, 0.05 * np.sin(5 * index)]),
            np.array([0.35 * x, 0.4 * y, WALL_M]),
            roll=np.deg2rad(1.5) * np.sin(7 * index),
        )
        depth, surface = _depth(world, camera, pose)
        image = _picture(world, camera, pose)
        noise = np.random.default_rng([seed, index, 19])
        image += noise.standard_normal(image.shape, np.float32) * np.float32(_SENSOR_NOISE)
        taken.append(
            SyntheticView(
                name=f"view_{index:03d}.jpg",
                camera=camera,
                cam_from_world=invert_pose(pose),
                image=in_unit_range(photo_bytes(image)),
                depth=depth,
                surface=surface,
            )
        )
    scene = SyntheticScene(name="detail", seed=seed, camera=camera, views=tuple(taken), world=world)
    kept = np.ones(len(world.shapes), bool)
    kept[boards:] = ~np.array(ridges)
    return Detail(
        scene=scene, bars=bars, reliefs=reliefs, smooth=tuple(smooth), flat=_part(world, kept)
    )


def _finish(rng: np.random.Generator) -> Material:
    """Rough paint: detail from 6 cm down to a millimetre."""
    dark = rng.uniform(0.12, 0.25) + rng.uniform(-0.06, 0.06, 3)
    light = rng.uniform(0.65, 0.85) + rng.uniform(-0.1, 0.1, 3)
    return Material(pattern=tracer.NOISE, colors=(dark, light), feature=0.06)


def _hang_bars(builder: WorldBuilder) -> Iterator[Bar]:
    """Upright bars on the right, level ones above."""
    for number, width in enumerate(np.array(WIDTHS_MM) / 1000):
        half = width / 2
        along = 0.15 + 0.14 * number
        for center, sizes in (
            ((along, 0.52, BARS_M), (half, 0.4, half)),
            ((-0.55, -0.1 - 0.1 * number, BARS_M), (0.5, half, half)),
        ):
            yield Bar(width=float(width), surface=builder.surface_count)
            builder.add(tracer.BOX, center, sizes, _finish(builder.rng))


def _mount_reliefs(builder: WorldBuilder) -> tuple[tuple[Relief, ...], list[bool]]:
    """Boards with ridges, and which of the bodies added are ridges."""
    reliefs, is_ridge = [], []
    thick = 0.02
    for row, height in enumerate(np.array(HEIGHTS_MM) / 1000):
        for column, side in enumerate(np.array(SIDES_MM) / 1000):
            look = _finish(builder.rng)
            x, y = 0.2 + 0.36 * column, -0.85 + 0.36 * row
            board = builder.surface_count
            half = _PATCH_M / 2
            builder.add(tracer.BOX, (x, y, WALL_M), (half, half, thick), look)
            is_ridge.append(False)
            front = WALL_M - thick
            places = np.arange(x - half + side, x + half - side / 2, 2 * side)
            for number, place in enumerate(places):
                builder.add(
                    tracer.BOX,
                    (place, y, front),
                    (side / 2, 0.9 * half, height),
                    look,
                    same_surface=number > 0,
                )
                is_ridge.append(True)
            reliefs.append(
                Relief(height=float(height), side=float(side), surfaces=(board, board + 1))
            )
    return tuple(reliefs), is_ridge


def _depth(
    world: World, camera: PinholeCamera, pose: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    depth, surface = np.empty(camera.shape, np.float32), np.empty(camera.shape, np.int32)
    for rows, columns, part, seen in _tiles(world, camera, pose):
        depth[rows, columns], surface[rows, columns] = seen.depth(part.K, pose, part.shape)
    return depth, surface


def _picture(world: World, camera: PinholeCamera, pose: NDArray[np.float64]) -> NDArray[np.float32]:
    image = np.empty((*camera.shape, 3), np.float32)
    for rows, columns, part, seen in _tiles(world, camera, pose):
        image[rows, columns] = seen.picture(part.K, pose, part.shape)
    return image


def _tiles(
    world: World, camera: PinholeCamera, pose: NDArray[np.float64]
) -> Iterator[tuple[slice, slice, PinholeCamera, World]]:
    """A picture in parts: rows, columns, the camera of the part, and the bodies it may see."""
    radius = np.linalg.norm(world.halves, axis=1)
    to = world.centers - pose[:3, 3]
    distance = np.linalg.norm(to, axis=1)
    near = distance <= radius
    spread = np.arcsin(np.where(near, 0.0, radius) / np.maximum(distance, 1e-9))
    for top in range(0, camera.height, _TILE):
        for left in range(0, camera.width, _TILE):
            rows = slice(top, min(top + _TILE, camera.height))
            columns = slice(left, min(left + _TILE, camera.width))
            height, width = rows.stop - top, columns.stop - left
            K = camera.K.copy()
            K[:2, 2] -= left, top
            part = PinholeCamera(K=K, width=width, height=height)
            corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float64)
            rays = part.rays(np.vstack([[[width / 2, height / 2]], corners])) @ pose[:3, :3].T
            rays /= np.linalg.norm(rays, axis=1, keepdims=True)
            cone = np.arccos(np.clip(rays[1:] @ rays[0], -1, 1)).max()
            angle = np.arccos(np.clip(to @ rays[0] / np.maximum(distance, 1e-9), -1, 1))
            yield rows, columns, part, _part(world, near | (angle <= cone + spread + 1e-6))


def _part(world: World, kept: NDArray[np.bool_]) -> World:
    """Some of the bodies."""
    return replace(
        world,
        shapes=world.shapes[kept],
        centers=world.centers[kept],
        rotations=world.rotations[kept],
        halves=world.halves[kept],
        finishes=world.finishes[kept],
        surfaces=world.surfaces[kept],
    )
