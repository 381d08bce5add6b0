"""Equirectangular 360 degree panoramas of the synthetic room, with exact distances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refdepth.synthetic import tracer
from refdepth.synthetic.rooms import Variant, World, build_world
from refdepth.types.camera import pose_matrix

_HEIGHT_M = -0.25
"""Of the cameras: over the furniture; y points down."""
_SENSOR_NOISE = 1.2 / 255
_GPANO = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf'
    '-syntax-ns#"><rdf:Description xmlns:GPano="http://ns.google.com/photos/1.0/panorama/"'
    ' GPano:ProjectionType="equirectangular"/></rdf:RDF></x:xmpmeta>'
)


@dataclass(frozen=True, kw_only=True, eq=False)
class SyntheticPanorama:
    """A panorama and the truth about it."""

    name: str
    """File name."""
    image: NDArray[np.uint8]
    """RGB (height, width, 3), equirectangular; the middle looks along z, the top up."""
    world_from_panorama: NDArray[np.float64]
    """Pose (4, 4)."""
    world: World
    """The room."""

    def depth(
        self, K: NDArray[np.float64], turn: NDArray[np.float64], shape: tuple[int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Exact depth and surface id (H, W) of a pinhole picture from the panorama's centre, turned
        by `turn` (panorama from camera, 3x3)."""
        turned = self.world_from_panorama @ pose_matrix(turn, np.zeros(3))
        return self.world.depth(K, turned, shape)


def make_panoramas(
    count: int, width: int, *, seed: int = 0, samples: int = 2
) -> list[SyntheticPanorama]:
    """`count` panoramas of `width` x `width` / 2 pixels, from a walk through the room; each is
    turned and tilted a little. The same arguments give the same panoramas."""
    world = build_world(Variant.ROOM, np.random.default_rng([seed, 0]))
    shape = width // 2, width
    taken = []
    for index in range(count):
        pose = _pose_at(index / max(1, count - 1))
        image = world.picture(
            panorama_calibration(width), pose, shape, samples, lens=tracer.EQUIRECTANGULAR
        )
        noise = np.random.default_rng([seed, index, 5]).normal(0, _SENSOR_NOISE, image.shape)
        taken.append(
            SyntheticPanorama(
                name=f"pano_{index:04d}.jpg",
                image=np.round(np.clip(image + noise, 0, 1) * 255).astype(np.uint8),
                world_from_panorama=pose,
                world=world,
            )
        )
    return taken


def write_panoramas(panoramas: Sequence[SyntheticPanorama], folder: Path) -> None:
    """Writes them into `folder` as JPEG, with metadata that say what they are."""
    folder.mkdir(parents=True, exist_ok=True)
    for panorama in panoramas:
        Image.fromarray(panorama.image).save(
            folder / panorama.name, quality=95, subsampling=0, xmp=_GPANO.encode()
        )


def panorama_calibration(width: int) -> NDArray[np.float64]:
    """What the tracer wants of an equirectangular picture: pixels a radian, and the middle."""
    scale = width / (2 * np.pi)
    return np.array([[scale, 0, width / 2], [0, scale, width / 4], [0, 0, 1.0]])


def _pose_at(t: float) -> NDArray[np.float64]:
    """World from panorama (4, 4) at a place `t` in [0, 1] on an arc through the open half of the
    room."""
    angle = np.pi * (0.1 + 0.8 * t)
    center = np.array(
        [-1.35 * np.cos(angle), _HEIGHT_M + 0.15 * np.sin(9 * t), -0.1 - 0.9 * np.sin(angle)]
    )
    yaw, pitch, roll = 0.9 * np.sin(4 * t), 0.05 * np.sin(7 * t), 0.04 * np.cos(5 * t)
    around_y = [[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]]
    around_x = [[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]]
    around_z = [[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]]
    return pose_matrix(np.array(around_y) @ np.array(around_x) @ np.array(around_z), center)
