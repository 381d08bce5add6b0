"""The scenes of `accuracy.py`: photos, a prior for each and the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from refdepth.evaluation.ground_truth import GroundTruth, open_ground_truth
from refdepth.geometry.lens import InputPhoto
from refdepth.ingest import find_photos, prepare_photo, safe_stems
from refdepth.io.colmap_model import read_scene
from refdepth.priors.fit import apply_fit, fit_scene
from refdepth.priors.maps import MapsPrior
from refdepth.sfm.mapping import reconstruct
from refdepth.synthetic import PriorError, SyntheticScene, Variant, make_scene
from refdepth.synthetic.tracer import REFLECTANCE
from refdepth.types.prior import Prior, PriorKind
from refdepth.types.scene import Scene, View


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A scene with photos, a prior for each and the truth."""

    name: str
    scene: Scene
    prior: Callable[[View], Prior]
    truth: GroundTruth
    patch: GroundTruth | None = None
    """The truth on the mirror alone."""

    def scaled(self) -> dict[str, np.ndarray]:
        """Every view's prior, fitted to the SfM points."""
        priors = {view.name: self.prior(view) for view in self.scene.views}
        points = {view.name: self.scene.sparse_depth(view) for view in self.scene.views}
        fits = fit_scene(priors, points)
        return {name: apply_fit(priors[name], fit) for name, fit in fits.items()}


def synthetic_tasks(
    names: list[str], *, seed: int, views: int, width: int, height: int, folder: Path
) -> Iterator[Task]:
    """One task for each scene and kind of error of the prior."""
    for name in names:
        made = make_scene(name, seed, views, width, height)
        place = folder / name
        made.write_ground_truth(place / "gt")
        patch = None
        if name == Variant.MIRROR_PATCH:
            _write_mirror(made, place / "mirror")
            patch = open_ground_truth(place / "mirror")
        scene = made.to_scene(place / "images")
        for error in PriorError:
            yield Task(
                name=f"{name}, {error}",
                scene=scene,
                prior=partial(_simulated, made, seed, error),
                truth=open_ground_truth(place / "gt"),
                patch=patch,
            )


def _simulated(made: SyntheticScene, seed: int, error: PriorError, view: View) -> Prior:
    stems = [Path(view.name).stem for view in made.views]
    return made.simulated_prior(stems.index(Path(view.name).stem), seed, error=error)


def _write_mirror(made: SyntheticScene, folder: Path) -> None:
    """The true depth of the mirror's pixels."""
    world = made.world
    mirrors = np.unique(world.surfaces[world.materials[world.finishes, REFLECTANCE] > 0.5])
    folder.mkdir()
    for view in made.views:
        depth = np.where(np.isin(view.surface, mirrors), view.depth, 0)
        if depth.any():
            path = folder / Path(view.name).with_suffix(".npz")
            np.savez(path, depth=depth, K=view.camera.K, cam_from_world=view.cam_from_world)


def photo_task(given: Path, folder: Path) -> Task | None:
    """The real scene in `given` (`images`, `mono`, `gt`), its cameras found in `folder` by the
    `sfm` stage's own code; None where a part is missing."""
    if not all((given / part).is_dir() for part in ("images", "gt", "mono")):
        return None
    candidates = find_photos(given / "images").candidates
    stems = safe_stems([one.original for one in candidates])
    images = folder / "images"
    images.mkdir(parents=True)
    photos = [
        prepare_photo(one.path, images / stems[one.original], original=one.original)
        for one in candidates
    ]
    reconstruct(images, photos, folder / "sfm")
    undistorted = folder / "sfm" / "undistorted"
    scene = read_scene(undistorted / "sparse", undistorted / "images")
    lenses = _lenses(folder / "sfm" / "sparse")
    maps = MapsPrior(given / "mono", PriorKind.INVERSE_AFFINE, lambda view: lenses[view.name])
    return Task(
        name=given.name,
        scene=scene,
        prior=lambda view: maps.estimate(view, scene),
        truth=open_ground_truth(given / "gt"),
    )


def _lenses(model: Path) -> dict[str, InputPhoto]:
    """The input photos' cameras by name."""
    from refdepth._pycolmap import pycolmap

    found = pycolmap.Reconstruction(model)
    return {
        image.name: InputPhoto(
            name=image.name,
            camera_model=found.cameras[image.camera_id].model.name,
            width=found.cameras[image.camera_id].width,
            height=found.cameras[image.camera_id].height,
            camera_params=tuple(float(p) for p in found.cameras[image.camera_id].params),
        )
        for image in found.images.values()
    }
