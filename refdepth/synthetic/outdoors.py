"""Houses on open ground under the sky, and a mountain behind them: what has no depth, and what is
far and has.

World axes as the cameras': x right, y down, z forward; units are metres. The ground is at y = 1.6.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from refdepth.synthetic import tracer
from refdepth.synthetic.rooms import Material, World, WorldBuilder
from refdepth.synthetic.scene import SyntheticScene, photo_bytes, pinhole, taken_from
from refdepth.synthetic.view import SyntheticView
from refdepth.types.camera import invert_pose
from refdepth.types.scene import in_unit_range

_SKY_M = 1e5
"""Far enough that no parallax is left over the cameras' path."""
_MOUNTAIN_M = 95.0
_WALK_M = 7.0
_SENSOR_NOISE = 1.2 / 255
_HOUSES = ((-8.5, 17.0, 2.6, 2.3), (-1.5, 21.0, 3.0, 3.4), (6.0, 16.0, 2.2, 2.0), (13, 24, 3, 2.8))
"""Place (x, z), half width and height of each."""


def make_outdoors(
    seed: int = 0, views: int = 8, width: int = 320, height: int = 240, *, clouds: bool = False
) -> SyntheticScene:
    """Photos along a walk before houses and a mountain. Exact depth is 0 and the surface -1 where
    a photo shows the sky, which is plain or has `clouds`."""
    rng = np.random.default_rng([seed, 11])
    world = _build(rng, clouds)
    sky = int(world.surfaces[0, 0])
    camera = pinhole(width, height)
    taken = []
    for index, t in enumerate(np.linspace(-0.5, 0.5, views)):
        pose = _pose_at(float(t))
        depth, surface = world.depth(camera.K, pose, camera.shape)
        image = world.picture(camera.K, pose, camera.shape)
        noise = np.random.default_rng([seed, index, 13]).normal(0, _SENSOR_NOISE, image.shape)
        taken.append(
            SyntheticView(
                name=f"view_{index:03d}.jpg",
                camera=camera,
                cam_from_world=invert_pose(pose),
                image=in_unit_range(photo_bytes(image + noise)),
                depth=np.where(surface == sky, np.float32(0), depth),
                surface=np.where(surface == sky, np.int32(-1), surface),
            )
        )
    return SyntheticScene(
        name="outdoors", seed=seed, camera=camera, views=tuple(taken), world=world
    )


def _pose_at(t: float) -> NDArray[np.float64]:
    """World from camera (4, 4) at a place `t` in [-0.5, 0.5] of the walk."""
    center = np.array([_WALK_M * t, -0.1 + 0.15 * np.sin(9 * t), 0.5 * np.sin(5 * t)])
    return taken_from(center, np.array([2.5 * t, -2.2, 18.0]), roll=np.deg2rad(1.5) * np.sin(7 * t))


def _build(rng: np.random.Generator, clouds: bool) -> World:
    builder = WorldBuilder(rng)

    def finish(pattern: int, feature: float, tone: float, tile: float = 1.0) -> Material:
        tint = rng.uniform(0.9, 1.1, 3)
        return Material(
            pattern=pattern,
            colors=(0.35 * tone * tint, 1.2 * tone * tint),
            feature=feature,
            tile=tile,
        )

    blue, pale = np.array([0.5, 0.68, 0.93]), np.array([0.8, 0.87, 0.96])
    sky = Material(
        pattern=tracer.NOISE if clouds else tracer.PLAIN,
        colors=(blue, pale),
        feature=(0.25 if clouds else 2.0) * _SKY_M,
    )
    builder.add(tracer.BOX, (0, 0, 0), (_SKY_M,) * 3, sky)
    ground = finish(tracer.NOISE, 0.8, 0.5)
    builder.add(tracer.BOX, (0, 2.1, 40), (90, 0.5, 90), ground)
    builder.add(
        tracer.SPHERE, (12, 55, _MOUNTAIN_M + 25), (70,) * 3, finish(tracer.NOISE, 6.0, 0.45)
    )
    for x, z, half, high in _HOUSES:
        wall = finish(tracer.TILES, 0.4, 0.62, 1.1)
        builder.add(tracer.BOX, (x, 1.6 - high, z), (half, high, 2.0), wall)
        roof = finish(tracer.NOISE, 0.3, 0.4)
        builder.add(tracer.BOX, (x, 1.5 - 2 * high, z), (1.1 * half, 0.25, 2.2), roof)
    mast = finish(tracer.NOISE, 0.2, 0.3)
    builder.add(tracer.CYLINDER, (-4.6, -1.6, 12.0), (0.12, 3.2, 0.12), mast)
    return replace(builder.world(), light=np.array([-30.0, -60.0, -20.0]))
