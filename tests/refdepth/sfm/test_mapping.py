"""Cameras and points from photos, against the exact cameras and depth of a synthetic room."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from refdepth._pycolmap import pycolmap
from refdepth.errors import InputError, Interrupted, StageError
from refdepth.ingest import prepare_photo
from refdepth.io.colmap_model import read_scene
from refdepth.io.images import load_mask, load_photo
from refdepth.sfm import features, placing, undistort
from refdepth.sfm.mapping import reconstruct
from refdepth.sfm.native import run_step
from refdepth.sfm.settings import SfmSettings
from refdepth.types.scene import Scene


def contents(folder: Path) -> dict[str, str]:
    """Hash of every file below `folder`."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def scene_of(out: Path) -> Scene:
    masks = out / "undistorted/masks"
    return read_scene(out / "undistorted/sparse", out / "undistorted/images", masks)


def test_all_photos_are_placed_where_they_were_taken(photo_set) -> None:
    scene = scene_of(photo_set.out)
    assert photo_set.summary.registered == tuple(view.name for view in photo_set.truth.views)
    assert photo_set.summary.failed == ()
    found = np.array([scene[view.name].center for view in photo_set.truth.views])
    exact = np.array([np.linalg.inv(view.cam_from_world)[:3, 3] for view in photo_set.truth.views])
    fit = pycolmap.estimate_sim3d(found, exact)
    moved = fit.scale * found @ fit.rotation.matrix().T + fit.translation
    length_of_path = np.linalg.norm(exact[0] - exact[-1])
    assert np.linalg.norm(moved - exact, axis=1).max() < 0.01 * length_of_path


def test_points_lie_at_the_exact_depth_up_to_one_scale(photo_set) -> None:
    scene = scene_of(photo_set.out)
    ratios = []
    for truth in photo_set.truth.views:
        view = scene[truth.name]
        sparse = scene.sparse_depth(view)
        assert len(sparse) > 100
        rays = view.camera.rays(sparse.xy)  # both cameras look along the same axis
        xy, _ = truth.camera.project(rays)
        column, row = np.floor(xy).astype(int).T
        inside = truth.camera.contains(xy)
        ratios.append(sparse.depth[inside] / truth.depth[row[inside], column[inside]])
    joined = np.concatenate(ratios)
    scale = np.median(joined)
    assert np.median(np.abs(joined / scale - 1)) < 0.01


def test_the_summary_and_the_workspace_are_complete(photo_set) -> None:
    summary = photo_set.summary
    assert summary.points > 300
    assert summary.mean_reprojection_error_px < 1
    assert summary.cameras == 1
    assert summary.matching == "exhaustive"
    assert {path.name for path in photo_set.out.iterdir()} == {
        "database.db",
        "database.json",
        "sparse",
        "undistorted",
    }
    dense = photo_set.out / "undistorted"
    assert {path.name for path in dense.iterdir()} == {"images", "sparse", "stereo"}
    for view in scene_of(photo_set.out).views:
        assert load_photo(view).image.shape[:2] == view.camera.shape


def test_a_repeated_and_an_interrupted_run_give_the_same_bytes(photo_set, tmp_path: Path) -> None:
    stopped = []

    def watch(label: str, done: float, total: float | None) -> None:
        if label == "matching photos" and total and 0 < done < total:
            stopped.append(done)

    with pytest.raises(Interrupted):
        reconstruct(
            photo_set.images,
            photo_set.photos,
            tmp_path,
            progress=watch,
            cancelled=lambda: bool(stopped) or (tmp_path / "models").exists(),
        )
    reconstruct(photo_set.images, photo_set.photos, tmp_path)
    assert contents(tmp_path) == contents(photo_set.out)


def test_every_step_keeps_to_the_seed_the_threads_and_the_memory(
    photo_set, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, dict[str, Any]] = {}

    def noted(step: str, **arguments: Any) -> Any:
        told[step] = arguments
        return run_step(step, **arguments)

    for module in (features, placing, undistort):
        monkeypatch.setattr(module, "run_step", noted)
    photos = photo_set.photos[:3]
    reconstruct(photo_set.images, photos, tmp_path, seed=5, threads=3)
    assert {step: arguments["threads"] for step, arguments in told.items()} == {
        "extract": 3,
        "match": 3,
        "map_incrementally": 1,  # the same bits on every run
        "undistort": 3,
    }
    assert (told["match"]["seed"], told["map_incrementally"]["seed"]) == (5, 5)
    reconstruct(photo_set.images, photos, tmp_path, seed=5, threads=3, memory_mb=1)
    assert (told["extract"]["threads"], told["undistort"]["threads"]) == (1, 3)


def test_another_seed_matches_anew_with_the_same_features(photo_set, tmp_path: Path) -> None:
    photos = photo_set.photos[:3]
    marks = []
    for seed in (0, 1):
        reconstruct(photo_set.images, photos, tmp_path, seed=seed)
        marks.append(json.loads((tmp_path / "database.json").read_text()))
    assert marks[0]["features"] == marks[1]["features"]
    assert marks[0]["matches"] != marks[1]["matches"]


def test_a_database_of_other_photos_or_settings_is_not_reused(photo_set, tmp_path: Path) -> None:
    shutil.copy(photo_set.out / "database.db", tmp_path)
    shutil.copy(photo_set.out / "database.json", tmp_path)
    fewer = SfmSettings(max_features=400)
    reconstruct(photo_set.images, photo_set.photos[:4], tmp_path, fewer)
    with pycolmap.Database.open(tmp_path / "database.db") as database:
        names = {image.name for image in database.read_all_images()}
        counts = [
            database.num_keypoints_for_image(image.image_id) for image in database.read_all_images()
        ]
    assert names == {photo.name for photo in photo_set.photos[:4]}
    assert max(counts) < 800


def test_a_damaged_database_is_made_again(photo_set, tmp_path: Path) -> None:
    (tmp_path / "database.db").write_bytes(b"no database" * 1000)
    shutil.copy(photo_set.out / "database.json", tmp_path)
    summary = reconstruct(photo_set.images, photo_set.photos[:3], tmp_path)
    assert len(summary.registered) == 3


def test_nothing_masked_out_carries_features(photo_set, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    photos = photo_set.photos[:4]
    for photo in photos[:3]:  # the fourth has no mask
        mask = np.full((photo.height, photo.width), 255, np.uint8)
        mask[:, :100] = 0
        Image.fromarray(mask).save(masks / f"{photo.name}.png")
    out = tmp_path / "sfm"
    reconstruct(photo_set.images, photos, out, masks=masks)
    with pycolmap.Database.open(out / "database.db") as database:
        columns = {
            image.name: database.read_keypoints(image.image_id)[:, 0]
            for image in database.read_all_images()
        }
    assert min(columns[photo.name].min() for photo in photos[:3]) >= 99
    assert columns[photos[3].name].min() < 50
    scene = scene_of(out)
    usable = load_mask(scene[photos[0].name])
    assert usable is not None
    assert not usable[:, :90].any()
    assert usable[:, 115:].all()
    assert load_mask(scene[photos[3].name]) is None


def test_progress_covers_each_step_to_its_end(photo_set, tmp_path: Path) -> None:
    last: dict[str, tuple[float, float | None]] = {}
    reconstruct(
        photo_set.images,
        photo_set.photos[:3],
        tmp_path,
        progress=lambda label, done, total: last.update({label: (done, total)}),
    )
    assert last == {
        "finding features": (3, 3),
        "matching photos": (3, 3),
        "placing cameras": (3, 3),
        "undistorting photos": (3, 3),
    }


def test_a_wrong_focal_length_in_exif_is_mended(photo_set, tmp_path: Path) -> None:
    photos = [replace(photo, focal_px=photo.focal_px * 1.7) for photo in photo_set.photos]
    reconstruct(photo_set.images, photos, tmp_path)
    (camera,) = pycolmap.Reconstruction(tmp_path / "sparse").cameras.values()
    assert camera.mean_focal_length() == pytest.approx(photo_set.truth.camera.K[0, 0], rel=0.02)


def test_two_places_are_told_apart_and_the_larger_is_used(photo_set, tmp_path: Path) -> None:
    from refdepth.synthetic import make_scene

    other = make_scene(seed=5, views=9, width=320, height=240)
    (tmp_path / "images").mkdir()
    photos = []
    for photo in photo_set.photos[:4]:
        shutil.copy(photo_set.images / photo.name, tmp_path / "images")
        photos.append(photo)
    for index, path in enumerate(other.write_photos(tmp_path / "given")[:5]):
        stem = tmp_path / f"images/other_{index}"
        photos.append(prepare_photo(path, stem, original=f"other_{index}.jpg"))
    summary = reconstruct(tmp_path / "images", photos, tmp_path / "sfm")
    assert summary.registered == tuple(f"other_{index}.jpg" for index in range(5))
    assert [set(names) for names in summary.other_models] == [
        {photo.name for photo in photo_set.photos[:4]}
    ]
    assert "2 separate models" in summary.warnings[0]


@pytest.mark.parametrize(
    ("kind", "reason"), [("black", "next to no texture"), ("unrelated", "same place")]
)
def test_photos_that_cannot_work_are_explained(tmp_path: Path, kind: str, reason: str) -> None:
    (tmp_path / "images").mkdir()
    photos = []
    for index in range(3):
        rng = np.random.default_rng(index)
        pixels = np.zeros((120, 160, 3), np.uint8)
        if kind == "unrelated":
            pixels = rng.integers(0, 255, pixels.shape, dtype=np.uint8)
        pixels[0, 0] = index
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        photos.append(prepare_photo(tmp_path / f"{index}.png", tmp_path / f"images/{index}"))
    with pytest.raises(StageError, match=reason) as caught:
        reconstruct(tmp_path / "images", photos, tmp_path / "sfm")
    assert caught.value.action


def test_one_photo_is_refused_before_any_work(photo_set, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least two"):
        reconstruct(photo_set.images, photo_set.photos[:1], tmp_path / "sfm")
    assert not (tmp_path / "sfm").exists()


@pytest.mark.shared
def test_a_real_room_is_registered(shared_scenes: Path, tmp_path: Path) -> None:
    source = shared_scenes / "fountain-P11/images"
    if not source.is_dir():
        pytest.skip("fountain-P11 is not among the scenes")
    (tmp_path / "images").mkdir()
    photos = [prepare_photo(path, tmp_path / "images" / path.stem) for path in source.iterdir()]
    summary = reconstruct(
        tmp_path / "images", photos, tmp_path / "sfm", SfmSettings(feature_image_size=800)
    )
    assert summary.failed == ()
