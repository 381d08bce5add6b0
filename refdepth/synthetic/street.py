"""A street of houses that repeat, photographed from end to end and back: many photos, exact poses.

Every house has the same windows and the same door; plaster and a sign are its own. World axes as
the cameras': x along the street, y down, z to the houses on the left hand; units are metres.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refdepth.synthetic import tracer
from refdepth.synthetic.rooms import World
from refdepth.types.camera import PinholeCamera, camera_center, invert_pose, pose_matrix

_HOUSE_M = 6.0
_HALF_WIDTH_M = 6.0
"""From the street's axis to the fronts."""
_LANE_M = 1.5
_SLANT_DEG = 62.0
"""Between the walk and the line of sight."""
_TURN_SHARE = 0.1
"""Share of the photos taken while turning round, at each end."""
_PHOTOS_A_HOUSE = 12
_HORIZONTAL_FOV_DEG = 60.0
_SENSOR_NOISE = 1.2 / 255
_OPENINGS = ((-1.7, -2.6), (1.7, -2.6), (-1.7, 0.2), (1.7, 0.2))
"""Places of the windows on a front (x, y)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Street:
    """Where photos of the street are taken; they are rendered when they are written."""

    seed: int
    camera: PinholeCamera
    cam_from_world: NDArray[np.float64]
    """World to camera of each photo (N, 4, 4), in the order of the walk."""
    names: tuple[str, ...]
    """File names of the photos (N,); their order is not that of the walk."""
    world: World

    @property
    def centers(self) -> NDArray[np.float64]:
        """Camera centres (N, 3), metres."""
        return np.stack([camera_center(pose) for pose in self.cam_from_world])

    def photo(self, index: int) -> NDArray[np.uint8]:
        """One photo (height, width, 3)."""
        pose = invert_pose(self.cam_from_world[index])
        seen = _in_sight(self.world, pose, self.camera)
        image = seen.picture(self.camera.K, pose, self.camera.shape, 1)
        noise = np.random.default_rng([self.seed, index]).normal(0, _SENSOR_NOISE, image.shape)
        return np.round(np.clip(image + noise, 0, 1) * 255).astype(np.uint8)

    def write_photos(self, folder: Path) -> list[Path]:
        """Writes the photos as JPEG into `folder`, one after the other."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / name for name in self.names]
        for index, path in enumerate(paths):
            Image.fromarray(self.photo(index)).save(path, quality=95, subsampling=0)
        return paths


def make_street(photos: int = 80, *, seed: int = 0, width: int = 480, height: int = 360) -> Street:
    """A street as long as `photos` need to overlap well; the same arguments give the same photos.

    Half of them look at the houses on one side on the way there, half at the other side on the way
    back; some are taken while turning round at the ends.
    """
    rng = np.random.default_rng([seed, 7])
    houses = max(2, round(photos / _PHOTOS_A_HOUSE / 2))
    focal = width / 2 / np.tan(np.deg2rad(_HORIZONTAL_FOV_DEG) / 2)
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    order = rng.permutation(photos)
    return Street(
        seed=seed,
        camera=PinholeCamera(K=K, width=width, height=height),
        cam_from_world=np.stack(
            [invert_pose(pose) for pose in _walk(photos, houses * _HOUSE_M, rng)]
        ),
        names=tuple(f"photo_{number:05d}.jpg" for number in order),
        world=_build(houses, rng),
    )


def _walk(photos: int, length: float, rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """World from camera of each photo: there, a turn, back, a turn."""
    turning = max(12, round(photos * _TURN_SHARE))
    there = (photos - 2 * turning) // 2
    back = photos - 2 * turning - there
    legs = []
    for count, start, heading in ((there, 0.0, 0.0), (back, length, 180.0)):
        way = length / max(1, count - 1) * np.arange(count)
        direction = np.cos(np.deg2rad(heading))
        legs += [(start + direction * x, _LANE_M * direction, heading + _SLANT_DEG) for x in way]
        end = length - start
        turn = np.linspace(0.0, 180.0, turning + 1, endpoint=False)[1:]
        lanes = _LANE_M * direction * np.cos(np.deg2rad(turn))
        bow = end + direction * 2.0 * np.sin(np.deg2rad(turn))
        legs += [
            (x, lane, heading + _SLANT_DEG - angle)
            for x, lane, angle in zip(bow, lanes, turn, strict=True)
        ]
    poses = []
    for x, z, yaw_deg in legs:
        x, y, z = np.array([x, 0.0, z]) + rng.normal(0, (0.08, 0.06, 0.12))
        yaw, pitch = np.deg2rad([yaw_deg + rng.normal(0, 2.0), rng.normal(-4.0, 1.5)])
        forward = np.array(
            [np.cos(yaw) * np.cos(pitch), np.sin(pitch), np.sin(yaw) * np.cos(pitch)]
        )
        right = np.cross([0.0, 1.0, 0.0], forward)
        right /= np.linalg.norm(right)
        axes = np.stack([right, np.cross(forward, right), forward], axis=1)
        poses.append(pose_matrix(axes, np.array([x, y, z])))
    return poses


def _build(houses: int, rng: np.random.Generator) -> World:
    """Houses on both sides and across both ends, the ground and the sky."""
    length = houses * _HOUSE_M
    materials: list[NDArray[np.float64]] = []
    bodies: list[tuple[list[float], list[float], int]] = []

    def material(pattern: int, seed: int, feature: float, tile: float, tone: float) -> int:
        row = np.zeros(tracer.MATERIAL_COLUMNS)
        row[tracer.PATTERN], row[tracer.SEED] = pattern, seed
        row[tracer.FEATURE], row[tracer.CONTRAST], row[tracer.TILE] = feature, 0.34, tile
        row[tracer.COLOR_A : tracer.COLOR_A + 3] = tone * np.array([0.5, 0.42, 0.36])
        row[tracer.COLOR_B : tracer.COLOR_B + 3] = tone * np.array([1.3, 1.25, 1.2])
        materials.append(row)
        return len(materials) - 1

    def own(feature: float, tone: float) -> int:
        return material(tracer.NOISE, int(rng.integers(1, 1 << 20)), feature, 0.3, tone)

    window = material(tracer.TILES, 11, 2.0, 0.55, 0.45)
    door = material(tracer.TILES, 12, 2.0, 0.8, 0.35)
    ground = material(tracer.REPEATED, 13, 0.3, 1.5, 0.5)
    sky = material(tracer.PLAIN, 14, 200.0, 1.0, 0.75)
    bodies.append(([length / 2, 0, 0], [length + 300, 200, 300], sky))
    bodies.append(([length / 2, 2.1, 0], [length + 100, 0.5, 100], ground))

    def front(place: NDArray[np.float64], along: NDArray[np.float64]) -> None:
        """A house at `place` on the ground, its front along `along`, facing the street."""
        inwards = np.array([-along[2], 0.0, along[0]])

        def box(x: float, y: float, half: tuple[float, float, float], look: int) -> None:
            center = place + x * along + np.array([0.0, y, 0.0])
            size = np.abs(half[0] * along + half[2] * inwards)
            size[1] = half[1]
            bodies.append((list(center), list(size), look))

        high = 3.4 + float(rng.uniform(-0.4, 0.4))
        box(0, 1.6 - high, (0.495 * _HOUSE_M, high, 0.6), own(0.35, 0.62))
        for x, y in _OPENINGS:
            box(x, y, (0.6, 0.8, 0.72), window)
        box(0, 0.65, (0.5, 0.95, 0.72), door)
        x, y = rng.uniform(-1.2, 1.2), rng.uniform(-1.4, -0.8)
        box(x, y, (float(rng.uniform(0.5, 0.9)), 0.3, 0.75), own(0.15, 0.7))

    for house in range(-1, houses + 1):
        for side in (1.0, -1.0):
            place = np.array([(house + 0.5) * _HOUSE_M, 0.0, side * (_HALF_WIDTH_M + 0.6)])
            front(place, np.array([1.0, 0.0, 0.0]))
    for x in (-1.2 * _HOUSE_M, length + 1.2 * _HOUSE_M):
        for z in (-0.5, 0.5):
            front(np.array([x, 0.0, z * _HOUSE_M]), np.array([0.0, 0.0, 1.0]))
    count = len(bodies)
    looks = np.array([[look] * 6 for _, _, look in bodies], np.int32)
    return World(
        shapes=np.full(count, tracer.BOX, np.int32),
        centers=np.array([center for center, _, _ in bodies], np.float64),
        rotations=np.tile(np.eye(3), (count, 1, 1)),
        halves=np.array([half for _, half, _ in bodies], np.float64),
        finishes=looks,
        surfaces=np.arange(6 * count, dtype=np.int32).reshape(count, 6),
        materials=np.array(materials),
        light=np.array([length / 2, -40.0, 0.0]),
    )


def _in_sight(world: World, pose: NDArray[np.float64], camera: PinholeCamera) -> World:
    """The world without bodies that lie wholly outside the picture's cone."""
    radius = np.linalg.norm(world.halves, axis=1)
    to = world.centers - pose[:3, 3]
    distance = np.linalg.norm(to, axis=1)
    diagonal = np.hypot(camera.width, camera.height) / 2
    cone = np.arctan2(diagonal, camera.K[0, 0])
    angle = np.arccos(np.clip(to @ pose[:3, 2] / np.maximum(distance, 1e-9), -1, 1))
    near = distance <= radius
    spread = np.arcsin(np.where(near, 0.0, radius) / np.maximum(distance, 1e-9))
    rows = near | (angle <= cone + spread)
    return World(
        shapes=world.shapes[rows],
        centers=world.centers[rows],
        rotations=world.rotations[rows],
        halves=world.halves[rows],
        finishes=world.finishes[rows],
        surfaces=world.surfaces[rows],
        materials=world.materials,
        light=world.light,
    )
