"""The scenes of `accuracy.py`: photos, a prior for each and the truth.

A real scene is a folder with `images`, `gt` and priors `mono`, `mono_net` (inverse depth up to
scale and shift), where `transforms.json` may give the cameras.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from refdepth.evaluation.ground_truth import GroundTruth, open_ground_truth
from refdepth.geometry.lens import InputPhoto
from refdepth.ingest import find_photos, prepare_photo, safe_stems
from refdepth.io.colmap_model import read_scene
from refdepth.priors.fit import ScaleSettings, apply_fit, fit_scene
from refdepth.priors.maps import MapsPrior
from refdepth.priors.sweep import SweepPrior
from refdepth.refine.wide import ERROR_QUANTILE, prior_errors
from refdepth.sfm.mapping import reconstruct
from refdepth.sfm.poses_entry import use_poses
from refdepth.synthetic import (
    PriorError,
    Spoiling,
    SyntheticScene,
    Variant,
    make_scene,
    spoil_prior,
)
from refdepth.synthetic.tracer import REFLECTANCE
from refdepth.types.prior import Prior, PriorKind
from refdepth.types.scene import Scene, View

GIVEN = ("mono", "mono_net")
"""Folders of maps that a real scene may have."""
PRIORS = (*PriorError, *GIVEN, "sweep", *Spoiling)
"""Kinds of prior: simulated for synthetic scenes, given with real ones, made from the photos, and
the first of either spoiled."""
_PARTS = ("images", "gt")
"""What a real scene must have."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ScaledPriors:
    """Priors of a scene, by the name of the view."""

    depth: dict[str, np.ndarray]
    """Scaled (H, W)."""
    error: dict[str, float]
    """How far off each is taken to be, in log depth."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A scene with photos, a prior for each and the truth."""

    name: str
    scene: Scene
    prior: Callable[[View], Prior]
    truth: GroundTruth
    patch: GroundTruth | None = None
    """The truth on the mirror alone."""

    def scaled(self, settings: ScaleSettings) -> ScaledPriors:
        """Every view's prior, fitted to the SfM points."""
        priors = {view.name: self.prior(view) for view in self.scene.views}
        points = {view.name: self.scene.sparse_depth(view) for view in self.scene.views}
        fits = fit_scene(priors, points, settings)
        errors = prior_errors(
            {
                name: fit.left_out_before.get(f"{ERROR_QUANTILE:g}", np.nan)
                for name, fit in fits.items()
            }
        )
        shapes = {view.name: view.camera.shape for view in self.scene.views}
        scaled = {name: apply_fit(priors[name], fit, shapes[name]) for name, fit in fits.items()}
        return ScaledPriors(depth=scaled, error=errors)


def synthetic_tasks(
    names: list[str],
    priors: Collection[str],
    *,
    seed: int,
    views: int,
    width: int,
    height: int,
    folder: Path,
) -> Iterator[Task]:
    """One task for each scene and each of `priors` that it can have."""
    for name in names:
        made = make_scene(name, seed, views, width, height)
        place = folder / name
        made.write_ground_truth(place / "gt")
        patch = None
        if name == Variant.MIRROR_PATCH:
            _write_mirror(made, place / "mirror")
            patch = open_ground_truth(place / "mirror")
        scene = made.to_scene(place / "images")
        sources = {str(error): partial(_simulated, made, seed, error) for error in PriorError}
        for kind, prior in _chosen(priors, sources, scene):
            yield Task(
                name=f"{name}, {kind}",
                scene=scene,
                prior=prior,
                truth=open_ground_truth(place / "gt"),
                patch=patch,
            )


def _chosen(
    priors: Collection[str], sources: dict[str, Callable[[View], Prior]], scene: Scene
) -> Iterator[tuple[str, Callable[[View], Prior]]]:
    """The chosen of a scene's `sources`, the sweep, and the first source spoiled."""
    for kind, source in sources.items():
        if kind in priors:
            yield kind, source
    if "sweep" in priors:
        yield "sweep", lambda view: SweepPrior().estimate(view, scene)
    first = next(iter(sources.values()), None)
    for how in Spoiling:
        if how in priors and first is not None:
            yield how, partial(_spoiled, first, how)


def _spoiled(source: Callable[[View], Prior], how: Spoiling, view: View) -> Prior:
    return spoil_prior(source(view), how)


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


def real_scenes(folder: Path | None) -> list[Path]:
    """The folders in `folder` that hold photos and truth."""
    if folder is None:
        return []
    return [one for one in sorted(folder.iterdir()) if all((one / p).is_dir() for p in _PARTS)]


def photo_tasks(given: Path, priors: Collection[str], folder: Path) -> Iterator[Task]:
    """One task for each of `priors` that the real scene `given` can have; its cameras are found in
    `folder` by the `sfm` stage's own code, or taken from its `transforms.json`."""
    candidates = find_photos(given / "images").candidates
    stems = safe_stems([one.original for one in candidates])
    images = folder / "images"
    images.mkdir(parents=True)
    photos = [
        prepare_photo(one.path, images / stems[one.original], original=one.original)
        for one in candidates
    ]
    if (given / "transforms.json").is_file():
        use_poses(given / "transforms.json", images, photos, folder / "sfm")
    else:
        reconstruct(images, photos, folder / "sfm")
    undistorted = folder / "sfm" / "undistorted"
    scene = read_scene(undistorted / "sparse", undistorted / "images")
    lenses = _lenses(folder / "sfm" / "sparse")
    sources = {
        part: partial(_given, given / part, lenses, scene)
        for part in GIVEN
        if (given / part).is_dir()
    }
    for kind, prior in _chosen(priors, sources, scene):
        yield Task(
            name=f"{given.name}, {kind}",
            scene=scene,
            prior=prior,
            truth=open_ground_truth(given / "gt"),
        )


def _given(folder: Path, lenses: dict[str, InputPhoto], scene: Scene, view: View) -> Prior:
    maps = MapsPrior(folder, PriorKind.INVERSE_AFFINE, lambda view: lenses[view.name])
    return maps.estimate(view, scene)


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
