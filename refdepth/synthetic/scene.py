"""A synthetic scene: photos, exact depth, exact cameras, and what can be made of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refdepth.errors import InputError
from refdepth.io.depth_files import write_posed_depth
from refdepth.synthetic.priors import PriorError, simulate_prior
from refdepth.synthetic.rooms import Variant, World, build_world
from refdepth.synthetic.sparse import sample_scene
from refdepth.synthetic.view import SyntheticView
from refdepth.types.camera import PinholeCamera, invert_pose, pose_matrix
from refdepth.types.prior import Prior, PriorKind
from refdepth.types.scene import Scene
from refdepth.writing import save_picture

_HORIZONTAL_FOV_DEG = 60.0
_ARC_DEG = 46.0
_SENSOR_NOISE = 1.2 / 255
_GAMMA = 2.2
_BLUR_STEPS = 9
_BLUR_LENGTH = 0.015
"""Share of the path covered during one exposure: a few pixels."""
_EXIF_FOCAL_35MM = 0xA405
_EXIF_IFD = 0x8769


@dataclass(frozen=True, kw_only=True, eq=False)
class SyntheticScene:
    """Photos of a room along an arc, with exact cameras and depth. Units are metres."""

    name: str
    seed: int
    camera: PinholeCamera
    views: tuple[SyntheticView, ...]
    world: World

    def write_photos(self, folder: Path, *, suffix: str = ".jpg") -> list[Path]:
        """Writes the photos (JPEG with the focal length in EXIF, or `.png`) into `folder`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        # The 35 mm equivalent refers to the diagonal (CIPA DCG-001), not to the width.
        diagonal = np.hypot(self.camera.width, self.camera.height)
        focal_35mm = self.camera.K[0, 0] / diagonal * np.hypot(36, 24)
        exif.get_ifd(_EXIF_IFD)[_EXIF_FOCAL_35MM] = round(focal_35mm)
        paths = []
        for view in self.views:
            path = (folder / view.name).with_suffix(suffix)
            picture = Image.fromarray(photo_bytes(view.image))
            if suffix == ".png":
                save_picture(picture, path, compress_level=1)
            else:
                save_picture(picture, path, quality=95, subsampling=0, exif=exif)
            paths.append(path)
        return paths

    def write_ground_truth(self, folder: Path) -> list[Path]:
        """Writes `NAME.npz` a photo into `folder`: `depth` (H, W) metres in the photo's grid,
        `K` (3, 3) and `cam_from_world` (4, 4)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for view in self.views:
            path = (folder / view.name).with_suffix(".npz")
            write_posed_depth(path, view.depth, view.camera, view.cam_from_world)
            paths.append(path)
        return paths

    def to_scene(
        self, image_dir: Path, *, points_per_view: int = 250, noise_px: float = 0.5
    ) -> Scene:
        """A `Scene` with the exact cameras and sparse points like those SfM finds, without SfM.

        Points are picked at image corners, tracked exactly, observed with `noise_px` of noise and
        triangulated from those observations. The photos are written into `image_dir` as PNG.
        """
        self.write_photos(image_dir, suffix=".png")
        rng = np.random.default_rng([self.seed, 1])
        return sample_scene(self.views, Path(image_dir), points_per_view, noise_px, rng)

    def simulated_prior(
        self,
        view_index: int,
        seed: int = 0,
        kind: PriorKind | str = PriorKind.INVERSE_AFFINE,
        error: PriorError | str = PriorError.SMOOTH,
    ) -> Prior:
        """What a monocular network might have said about a view: unknown scale and shift, smeared
        edges, and a distortion that is smooth or differs from surface to surface."""
        view = self.views[view_index]
        rng = np.random.default_rng([self.seed, seed, view_index, 2])
        return simulate_prior(view.depth, view.surface, PriorKind(kind), PriorError(error), rng)

    def frames(self, count: int) -> Iterator[NDArray[np.uint8]]:
        """`count` frames (height, width, 3) of a video along the photos' path."""
        for t in np.linspace(0.0, 1.0, count):
            picture = self.world.picture(self.camera.K, _pose_at(t), self.camera.shape)
            yield photo_bytes(picture)


def make_scene(
    name: Variant | str = Variant.ROOM,
    seed: int = 0,
    views: int = 10,
    width: int = 480,
    height: int = 360,
) -> SyntheticScene:
    """Builds a room and photographs it; the same arguments give the same scene.

    Raises `InputError` for an unknown name or an impossible size.
    """
    if name not in list(Variant):
        raise InputError(
            "no such synthetic scene.",
            subject=str(name),
            action=f"Choose one of {', '.join(Variant)}.",
        )
    if views < 1 or width < 16 or height < 16:
        raise InputError(f"cannot make {views} views of {width}x{height} pixels.", subject=name)
    variant = Variant(name)
    rng = np.random.default_rng([seed, list(Variant).index(variant) if _own_room(variant) else 0])
    world = build_world(variant, rng)
    camera = pinhole(width, height)
    places = np.linspace(0.0, 1.0, views) if views > 1 else np.array([0.5])
    taken = []
    for index, t in enumerate(places):
        pose = _pose_at(t)
        depth, surface = world.depth(camera.K, pose, camera.shape)
        image = _photograph(world, camera, variant, index, float(t))
        noise = np.random.default_rng([seed, index, 3]).normal(0, _SENSOR_NOISE, image.shape)
        taken.append(
            SyntheticView(
                name=f"view_{index:03d}.jpg",
                camera=camera,
                cam_from_world=invert_pose(pose),
                image=photo_bytes(image + noise).astype(np.float32) / np.float32(255),
                depth=depth,
                surface=surface,
            )
        )
    return SyntheticScene(
        name=str(variant), seed=seed, camera=camera, views=tuple(taken), world=world
    )


def _own_room(variant: Variant) -> bool:
    """Variants of the photography share the plain `room`, so that errors can be compared."""
    return variant not in (Variant.EXPOSURE_CHANGES, Variant.MOTION_BLUR)


def _photograph(
    world: World, camera: PinholeCamera, variant: Variant, index: int, t: float
) -> NDArray[np.float32]:
    blurred = variant == Variant.MOTION_BLUR and index % 3 == 1
    if blurred:
        moments = t + _BLUR_LENGTH * np.linspace(-0.5, 0.5, _BLUR_STEPS)
        shots = [world.picture(camera.K, _pose_at(m), camera.shape, 1) for m in moments]
        return np.mean(shots, axis=0, dtype=np.float32)
    image = world.picture(camera.K, _pose_at(t), camera.shape)
    if variant == Variant.EXPOSURE_CHANGES:
        stops = (-0.5, 0.4, -0.1, 0.5, -0.4)[index % 5]
        image = (np.clip(image, 0, 1) ** _GAMMA * 2.0**stops) ** (1 / _GAMMA)
    return image.astype(np.float32)


def _pose_at(t: float) -> NDArray[np.float64]:
    """World from camera (4, 4) at a place `t` in [0, 1] on the arc around the furniture."""
    angle = np.deg2rad(_ARC_DEG) * (t - 0.5)
    target = np.array([0.05 * np.sin(7 * t), 0.3, 1.15])
    radius = 2.55 + 0.12 * np.sin(5 * t)
    height = -0.42 + 0.14 * np.sin(9 * t + 0.5)
    center = target + np.array([radius * np.sin(angle), height, -radius * np.cos(angle)])
    return taken_from(center, target, roll=np.deg2rad(2.0) * np.sin(6 * t))


def pinhole(width: int, height: int) -> PinholeCamera:
    """The camera of the synthetic photos."""
    focal = width / 2 / np.tan(np.deg2rad(_HORIZONTAL_FOV_DEG) / 2)
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return PinholeCamera(K=K, width=width, height=height)


def taken_from(
    center: NDArray[np.float64], target: NDArray[np.float64], *, roll: float
) -> NDArray[np.float64]:
    """World from camera (4, 4) of a camera at `center` that looks at `target`, turned about its
    axis by `roll` radians."""
    forward = target - center
    forward /= np.linalg.norm(forward)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    x, y = np.cos(roll) * right + np.sin(roll) * down, np.cos(roll) * down - np.sin(roll) * right
    return pose_matrix(np.stack([x, y, forward], axis=1), center)


def photo_bytes(image: NDArray[np.floating]) -> NDArray[np.uint8]:
    """A picture in [0, 1] as a file of 8 bits holds it."""
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
