"""pycolmap's long calls as functions of paths and plain values. They run in a child process (see
`refdepth.sfm.native`), which reads progress from what pycolmap logs; mappers report it themselves.
The database is not looked at meanwhile: a second reader makes pycolmap end its process."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from refdepth._pycolmap import pycolmap
from refdepth.sfm import alike
from refdepth.sfm.adjustment import adjust
from refdepth.sfm.joining import join_models
from refdepth.sfm.nearest import match_pairs
from refdepth.sfm.principal_point import refine_principal_points
from refdepth.sfm.rigs import rigid_in
from refdepth.sfm.settling import settle
from refdepth.sfm.sift import Sift

Report = Callable[[float, float | None], None]

_PAIRS_PER_THREAD = 64
"""Matched, then verified in one call, each of which takes 50 ms before it begins."""


def extract(
    *,
    database: str,
    images: str,
    names: list[str],
    large: list[str],
    masks: str | None,
    max_features: int,
    max_image_size: int,
    threads: int,
    threads_large: int,
    report: Report,
) -> None:
    """SIFT features of `names` and of the `large` photos into `database`; photos that have theirs
    are skipped."""
    places: dict[str, Any] = {
        "database": Path(database),
        "images": Path(images),
        "masks": Path(masks) if masks else None,
    }
    limits = {"max_features": max_features, "max_image_size": max_image_size}
    Sift(**limits, threads=threads).find(**places, names=names)
    pycolmap.logging.minloglevel = 1  # progress, which this step reports itself from here on

    def report_large(done: int) -> None:
        report(len(names) + done, len(names) + len(large))

    Sift(**limits, threads=threads_large).find_large(**places, names=large, report=report_large)


def match(
    *,
    database: str,
    pairs: str,
    guided: bool,
    seed: int,
    threads: int,
    report: Report,
) -> None:
    """Matches and verifies the pairs of photos listed in file `pairs`; pairs that have their
    matches are skipped."""
    options = pycolmap.FeatureMatchingOptions()
    options.use_gpu = False
    options.num_threads = threads
    options.guided_matching = guided
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = seed
    pairing = pycolmap.ImportedPairingOptions()
    pairing.block_size = 10  # pairs whose results are written at once: what a stop may lose
    pycolmap.logging.minloglevel = 1  # progress, which is reported here
    listed = Path(pairs).read_text().splitlines()
    with pycolmap.Database.open(database) as opened:
        images = {image.name: image.image_id for image in opened.read_all_images()}
        found = {line: _numbers(line, images) for line in listed}
        missing = [line for line in listed if not _matched(opened, *found[line])]

    def told(start: int) -> Callable[[int], None]:
        before = len(listed) - len(missing) + start
        return lambda done: report(before + done, len(listed))

    with tempfile.TemporaryDirectory(prefix=".tmp-block-", dir=Path(pairs).parent) as folder:
        pairing.match_list_path = Path(folder) / "pairs.txt"
        size = _PAIRS_PER_THREAD * threads
        for start in range(0, len(missing), size):
            block = missing[start : start + size]
            numbers = [found[line] for line in block]
            match_pairs(Path(database), numbers, threads=threads, report=told(start))
            pairing.match_list_path.write_text("".join(f"{line}\n" for line in block))
            pycolmap.match_image_pairs(
                database,
                matching_options=options,
                pairing_options=pairing,
                verification_options=verification,
                device=pycolmap.Device.cpu,
            )


def _numbers(pair: str, images: dict[str, int]) -> tuple[int, int]:
    first, second = pair.split()
    return images[first], images[second]


def _matched(opened: Any, first: int, second: int) -> bool:
    return bool(
        opened.exists_matches(first, second) and opened.exists_two_view_geometry(first, second)
    )


def rank_alike(
    *,
    database: str,
    vocabulary: str | None,
    folder: str,
    count: int,
    seed: int,
    report: Report,
) -> dict[str, list[str]]:
    """For each photo of the database the names of up to `count` others that look most like it, best
    first. Without a `vocabulary` one is made from the photos, in `folder`."""
    return alike.rank(
        Path(database),
        vocabulary=Path(vocabulary) if vocabulary else None,
        folder=Path(folder),
        count=count,
        seed=seed,
    )


def check_vocabulary(*, path: str, report: Report) -> str:
    """The kind of features that a vocabulary is for."""
    return str(pycolmap.VisualIndex.read(path).feature_type().name)


def map_incrementally(
    *,
    database: str,
    images: str,
    output: str,
    count: int,
    min_model_size: int,
    min_triangulation_angle_deg: float,
    min_inliers: int,
    refine_principal_point: bool,
    seed: int,
    threads: int,
    begin: str | None = None,
    snapshots: str | None = None,
    snapshot_photos: int = 0,
    report: Report,
) -> list[dict[str, Any]]:
    """Places cameras one by one. Each model is left in a folder of `output`; models that share
    photos are joined. Where `snapshots` is given, the growing model is left in a folder of it
    whenever `snapshot_photos` more are placed; `begin` is one of those, to go on from."""
    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed = seed
    options.num_threads = threads
    options.min_model_size = min_model_size
    options.mapper.init_min_tri_angle = min_triangulation_angle_deg
    options.mapper.init_min_num_inliers = min_inliers
    options.constant_rigs, options.constant_cameras = rigid_in(Path(database))
    if snapshots is not None:
        options.snapshot_path = snapshots
        options.snapshot_frames_freq = snapshot_photos
    registered = pycolmap.Reconstruction(begin).num_reg_images() if begin else 0

    def placed(photos: int) -> None:
        nonlocal registered
        registered += photos
        report(min(registered, count), count)

    models = pycolmap.incremental_mapping(
        database,
        images,
        output,
        options=options,
        input_path=begin or "",
        initial_image_pair_callback=lambda: placed(2),
        next_image_callback=lambda: placed(1),
    )
    models, changed = join_models(models, threads=threads)
    if begin:  # then pycolmap writes beside these folders, and only there
        changed = set(models)
    for index in changed:
        folder = Path(output) / str(index)
        folder.mkdir(exist_ok=True)
        models[index].write(folder)
    models = _settled(models, output, refine_principal_point, threads)
    return _describe_models(models, output)


def map_globally(
    *,
    database: str,
    images: str,
    output: str,
    refine_principal_point: bool,
    seed: int,
    threads: int,
    report: Report,
) -> list[dict[str, Any]]:
    """Places all cameras at once. Each model is left in a folder of `output`."""
    options = pycolmap.GlobalPipelineOptions()
    options.random_seed = seed
    options.num_threads = threads
    options.min_model_size = 2
    options.mapper.global_positioning.use_gpu = False
    options.mapper.bundle_adjustment.ceres.use_gpu = False
    report(0, None)
    _, faces = rigid_in(Path(database))
    options.mapper.refine_sensor_from_rig = False
    known = _params_of(database, faces)
    models = pycolmap.global_mapping(database, images, output, options)
    if faces:  # whose cameras this mapper refines with all others
        for index, model in models.items():
            for camera, params in known.items():
                if model.exists_camera(camera):
                    model.cameras[camera].params = params
            adjust(model, model.reg_image_ids(), threads=threads)
            model.update_point_3d_errors()
            model.write(Path(output) / str(index))
    models = _settled(models, output, refine_principal_point, threads)
    return _describe_models(models, output)


def _params_of(database: str, cameras: set[int]) -> dict[int, Any]:
    with pycolmap.Database.open(database) as opened:
        return {camera: opened.read_camera(camera).params for camera in cameras}


def _settled(
    models: dict[int, Any], output: str, refine_principal_point: bool, threads: int
) -> dict[int, Any]:
    """The models in the folders of `output` after the last adjustments."""
    found = {}
    for index in models:
        folder = Path(output) / str(index)
        if refine_principal_point:
            refine_principal_points(folder, threads=threads)
        found[index] = settle(folder, threads=threads)
    return found


def triangulate(
    *,
    database: str,
    images: str,
    model: str,
    output: str,
    refine_intrinsics: bool,
    seed: int,
    threads: int,
    report: Report,
) -> list[dict[str, Any]]:
    """Triangulates points with the poses of `model` held fixed; leaves a model in `output`/0."""
    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed = seed
    options.num_threads = threads
    report(0, None)
    folder = Path(output) / "0"
    folder.mkdir(parents=True)
    reconstruction = pycolmap.triangulate_points(
        pycolmap.Reconstruction(model),
        database,
        images,
        str(folder),
        options=options,
        refine_intrinsics=refine_intrinsics,
    )
    reconstruction.write(folder)
    return _describe_models({0: reconstruction}, output)


def undistort(
    *,
    images: str,
    model: str,
    output: str,
    jpeg_quality: int,
    threads: int,
    report: Report,
) -> None:
    """Writes pinhole images and cameras as a COLMAP dense workspace."""
    pycolmap.undistort_images(
        output,
        model,
        images,
        output_type="COLMAP",
        jpeg_quality=jpeg_quality,
        num_threads=threads,
    )


def check_model(*, model: str, output: str, report: Report) -> list[dict[str, Any]]:
    """Reads a foreign COLMAP model (text or binary) and rewrites it as binary in `output`/0."""
    report(0, None)
    reconstruction = pycolmap.Reconstruction(model)
    folder = Path(output) / "0"
    folder.mkdir(parents=True)
    reconstruction.write(folder)
    return _describe_models({0: reconstruction}, output)


def _describe_models(models: dict[int, Any], output: str) -> list[dict[str, Any]]:
    return [
        {
            "path": str(Path(output) / str(index)),
            "names": sorted(image.name for image in model.images.values() if image.has_pose),
            "points": model.num_points3D(),
        }
        for index, model in sorted(models.items())
    ]
