"""The rooms: bodies, their materials, and the variants that make matching harder.

World axes as the cameras': x right, y down, z forward; units are metres. The floor is at y = 1.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refdepth.synthetic import tracer


class Variant(StrEnum):
    """A synthetic scene by name."""

    ROOM = "room"
    """Textured and plain walls, furniture, curved things."""
    PLAIN_WALLS = "plain_walls"
    """Every wall and the large furniture without texture."""
    REPEATED_TEXTURE = "repeated_texture"
    """Walls and floor papered with one motif, repeated."""
    THIN_THINGS = "thin_things"
    """Rods, wires and a railing a few pixels wide."""
    MIRROR_PATCH = "mirror_patch"
    """A mirror on the back wall."""
    EXPOSURE_CHANGES = "exposure_changes"
    """The room, neighbouring photos about one stop apart."""
    MOTION_BLUR = "motion_blur"
    """The room, every third photo blurred by camera motion."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a surface looks like."""

    pattern: int
    colors: tuple[ArrayLike, ArrayLike]
    """The two colours the pattern mixes, RGB in [0, 1]."""
    feature: float = 0.25
    """Coarsest detail, metres."""
    contrast: float = 0.34
    tile: float = 0.3
    """Side of a tile or period of a repeated motif, metres."""
    reflectance: float = 0.0
    """Share of mirrored light in [0, 1]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """A room as the tracer's arrays."""

    shapes: NDArray[np.int32]
    """Shape of each body (P,)."""
    centers: NDArray[np.float64]
    """Centres (P, 3)."""
    rotations: NDArray[np.float64]
    """World from body (P, 3, 3)."""
    halves: NDArray[np.float64]
    """Half sizes (P, 3): half edges; radius three times; radius, half height, radius."""
    finishes: NDArray[np.int32]
    """Row of `materials` on each face (P, 6)."""
    surfaces: NDArray[np.int32]
    """Surface id of each face (P, 6): one a wall, one a piece of furniture."""
    materials: NDArray[np.float64]
    """Material table (M, 12)."""
    light: NDArray[np.float64]
    """Place of the lamp (3,)."""

    def depth(
        self,
        K: NDArray[np.float64],
        pose: NDArray[np.float64],
        shape: tuple[int, int],
        lens: int = tracer.PINHOLE,
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Exact depth and surface id (H, W) seen by a camera at `pose` (world from camera); the
        distance along the ray for a `lens` of `tracer` that is no pinhole."""
        depth, surface = np.empty(shape, np.float32), np.empty(shape, np.int32)
        tracer.trace_depth(*_lens(K, pose), lens, *self._bodies, self.surfaces, depth, surface)
        return depth, surface

    def picture(
        self,
        K: NDArray[np.float64],
        pose: NDArray[np.float64],
        shape: tuple[int, int],
        samples: int = 2,
        lens: int = tracer.PINHOLE,
    ) -> NDArray[np.float32]:
        """RGB (H, W, 3) seen by a camera at `pose` (world from camera), `samples`² rays a pixel,
        through a `lens` of `tracer`."""
        image = np.empty((*shape, 3), np.float32)
        tracer.trace_color(
            *_lens(K, pose),
            lens,
            *self._bodies,
            self.finishes,
            self.materials,
            self.light,
            samples,
            image,
        )
        return image

    @property
    def _bodies(self) -> tuple[NDArray[Any], ...]:
        return self.shapes, self.centers, self.rotations, self.halves


def _lens(K: NDArray[np.float64], pose: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    return (
        np.ascontiguousarray(pose[:3, 3]),
        np.ascontiguousarray(pose[:3, :3]),
        np.ascontiguousarray(K),
    )


@dataclass
class WorldBuilder:
    """Collects bodies and materials."""

    rng: np.random.Generator
    bodies: list[tuple[int, Any, Any, Any, list[int], list[int]]] = field(default_factory=list)
    materials: list[NDArray[np.float64]] = field(default_factory=list)
    surface_count: int = 0

    def add(
        self,
        shape: int,
        center: Sequence[float],
        half: Sequence[float],
        look: Material | Sequence[Material],
        *,
        yaw_deg: float = 0.0,
        pitch_deg: float = 0.0,
        same_surface: bool = False,
    ) -> None:
        """A body with one material, or one for each face (-x, +x, -y, +y, -z, +z). A body is a
        surface of its own unless it belongs to the one before; faces with a material each are
        surfaces each."""
        looks = [look] * 6 if isinstance(look, Material) else list(look)
        if not same_surface:
            self.surface_count += 1
        surfaces = [self.surface_count - 1] * 6
        if not isinstance(look, Material):
            surfaces = [self.surface_count - 1 + face for face in range(6)]
            self.surface_count += 5
        rows: dict[int, int] = {}
        for item in looks:
            if id(item) not in rows:
                rows[id(item)] = len(self.materials)
                self.materials.append(self._row(item))
        a, b = np.deg2rad([yaw_deg, pitch_deg])
        yaw = [[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]]
        pitch = [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
        finish = [rows[id(item)] for item in looks]
        self.bodies.append((shape, center, np.array(yaw) @ pitch, half, finish, surfaces))

    def _row(self, look: Material) -> NDArray[np.float64]:
        row = np.zeros(tracer.MATERIAL_COLUMNS)
        row[tracer.PATTERN], row[tracer.SEED] = look.pattern, self.rng.integers(1, 1 << 20)
        row[tracer.FEATURE], row[tracer.CONTRAST] = look.feature, look.contrast
        row[tracer.TILE], row[tracer.REFLECTANCE] = look.tile, look.reflectance
        row[tracer.COLOR_A : tracer.COLOR_A + 3] = look.colors[0]
        row[tracer.COLOR_B : tracer.COLOR_B + 3] = look.colors[1]
        return row

    def world(self) -> World:
        """What was added, lit from the room's lamp."""
        shapes, centers, rotations, halves, finishes, surfaces = zip(*self.bodies, strict=True)
        return World(
            shapes=np.array(shapes, np.int32),
            centers=np.array(centers, np.float64),
            rotations=np.array(rotations, np.float64),
            halves=np.array(halves, np.float64),
            finishes=np.array(finishes, np.int32),
            surfaces=np.array(surfaces, np.int32),
            materials=np.array(self.materials),
            light=np.array([0.6, -1.1, -0.4]),
        )


def build_world(variant: Variant, rng: np.random.Generator) -> World:
    """The room of a variant; colours, textures and small placements come from `rng`."""
    builder = WorldBuilder(rng)
    plain = variant == Variant.PLAIN_WALLS
    repeated = variant == Variant.REPEATED_TEXTURE

    def finish(pattern: int, **options: float) -> Material:
        dark = rng.uniform(0.1, 0.25) + rng.uniform(-0.08, 0.08, 3)
        light = rng.uniform(0.65, 0.85) + rng.uniform(-0.13, 0.13, 3)
        return Material(pattern=pattern, colors=(dark, light), **options)

    def pale() -> Material:
        tone = rng.uniform(0.68, 0.8) + rng.uniform(-0.03, 0.03, 3)
        return Material(pattern=tracer.PLAIN, colors=(tone - 0.02, tone + 0.02), feature=1.5)

    def wall(pattern: int, **options: float) -> Material:
        if repeated:
            return finish(tracer.REPEATED, feature=0.12, tile=0.36)
        return pale() if plain else finish(pattern, **options)

    left, ceiling = pale(), pale()
    right, floor = wall(tracer.TILES, tile=0.35), wall(tracer.TILES, tile=0.45)
    back = wall(tracer.NOISE, feature=0.4)
    behind = pale() if plain else finish(tracer.TILES, tile=0.5)
    if repeated:
        left = wall(tracer.REPEATED)
    builder.add(
        tracer.BOX, (0, 0, 0.3), (2.6, 1.3, 2.3), (left, right, ceiling, floor, behind, back)
    )
    _hang_pictures(builder, finish)
    _furnish(builder, finish, pale if plain else lambda: finish(tracer.NOISE))
    if variant == Variant.THIN_THINGS:
        _add_thin_things(builder, finish)
    if variant == Variant.MIRROR_PATCH:
        mirror = replace(pale(), reflectance=0.9)
        builder.add(tracer.BOX, (0.35, -0.35, 2.57), (0.75, 0.5, 0.02), mirror)
    return builder.world()


def _hang_pictures(builder: WorldBuilder, finish: Callable[..., Material]) -> None:
    """Framed pictures: they give even a plain room points to hold on to."""
    for x, y, half_x, half_y in ((-1.75, -0.45, 0.42, 0.3), (1.85, -0.4, 0.33, 0.42)):
        look = finish(tracer.TILES, feature=0.12, tile=0.17)
        builder.add(tracer.BOX, (x, y, 2.57), (half_x, half_y, 0.02), look)
    look = finish(tracer.NOISE, feature=0.15)
    builder.add(tracer.BOX, (-2.58, -0.3, 1.3), (0.02, 0.35, 0.5), look)


def _furnish(
    builder: WorldBuilder, finish: Callable[..., Material], large: Callable[[], Material]
) -> None:
    """Table, cupboard, couch, stool; vase, balls and a lamp."""
    yaw = float(builder.rng.uniform(15, 30))
    top = finish(tracer.NOISE, feature=0.2)
    wood = finish(tracer.NOISE, feature=0.1)
    builder.add(tracer.BOX, (-0.1, 0.62, 0.95), (0.6, 0.03, 0.4), top, yaw_deg=yaw)
    turn = np.deg2rad(yaw)
    for x, z in ((-0.53, -0.33), (-0.53, 0.33), (0.53, -0.33), (0.53, 0.33)):
        place = (
            -0.1 + x * np.cos(turn) + z * np.sin(turn),
            0.975,
            0.95 - x * np.sin(turn) + z * np.cos(turn),
        )
        builder.add(tracer.BOX, place, (0.04, 0.325, 0.04), wood, yaw_deg=yaw, same_surface=True)
    books = finish(tracer.TILES, feature=0.08, tile=0.13)
    builder.add(tracer.BOX, (1.7, 0.45, 2.1), (0.5, 0.85, 0.28), books, yaw_deg=-8.0)
    couch = large()
    builder.add(tracer.BOX, (-1.65, 1.0, 1.75), (0.7, 0.3, 0.42), couch, yaw_deg=14.0)
    builder.add(
        tracer.BOX, (-1.75, 0.65, 2.12), (0.7, 0.3, 0.1), couch, yaw_deg=14.0, same_surface=True
    )
    stool = finish(tracer.NOISE, feature=0.15)
    builder.add(tracer.CYLINDER, (1.0, 1.05, 0.75), (0.24, 0.25, 0.24), stool)
    vase = finish(tracer.NOISE, feature=0.12)
    builder.add(tracer.CYLINDER, (-0.35, 0.43, 1.0), (0.09, 0.16, 0.09), vase)
    ball = finish(tracer.NOISE, feature=0.1)
    builder.add(tracer.SPHERE, (0.15, 0.42, 0.85), (0.17, 0.17, 0.17), ball)
    globe = finish(tracer.TILES, feature=0.1, tile=0.12)
    builder.add(tracer.SPHERE, (-0.95, 1.03, 0.75), (0.27, 0.27, 0.27), globe)
    pole = finish(tracer.NOISE, feature=0.06)
    builder.add(tracer.CYLINDER, (0.75, 0.35, 2.1), (0.035, 0.95, 0.035), pole)
    shade = finish(tracer.NOISE, feature=0.12)
    builder.add(tracer.CYLINDER, (0.75, -0.72, 2.1), (0.2, 0.16, 0.2), shade)


def _add_thin_things(builder: WorldBuilder, finish: Callable[..., Material]) -> None:
    """A railing before the table, upright rods and slanted wires."""
    rail = finish(tracer.NOISE, feature=0.06)
    for x in np.linspace(-1.2, 1.2, 13):
        builder.add(tracer.CYLINDER, (x, 0.95, 0.15), (0.012, 0.35, 0.012), rail)
    builder.add(tracer.BOX, (0, 0.59, 0.15), (1.25, 0.015, 0.015), rail, same_surface=True)
    for x, z in ((-1.2, 1.0), (-0.5, 1.5), (0.45, 1.3), (1.35, 1.2)):
        rod = finish(tracer.NOISE, feature=0.06)
        builder.add(tracer.CYLINDER, (x, 0.0, z), (0.015, 1.3, 0.015), rod)
    for y, pitch in ((-0.6, 6.0), (-0.45, -9.0), (-0.2, 12.0)):
        wire = finish(tracer.NOISE, feature=0.06)
        builder.add(
            tracer.BOX, (0, y, 1.2), (0.006, 0.006, 1.6), wire, yaw_deg=70.0, pitch_deg=pitch
        )
