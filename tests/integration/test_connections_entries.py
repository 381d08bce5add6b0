"""Every way in, on a small room, and with `-m connections` on the demo and on real photos."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from connections import (
    Case,
    depth_hashes,
    in_words,
    summary,
    write_distorted,
    write_maps,
    write_poses,
    write_true_poses,
    write_video,
)
from PIL import Image

from refdepth._pycolmap import pycolmap
from refdepth.cli.exit_codes import ExitCode
from refdepth.cli.main import run
from refdepth.io.images import load_mask
from refdepth.pipeline.results import Results
from refdepth.pipeline.workspace import Workspace

WORSE = 1.5
"""How much larger the error may be than that of the full run."""


def test_photos(case: Case) -> None:
    """The full run that the others are compared with."""
    found, error = summary(case.out, "sfm"), case.error(case.out)
    case.say(f"{len(found['registered'])} of {len(case.photos)} photos placed, {in_words(error)}")
    assert len(found["registered"]) == len(case.photos)
    assert error["median_rel"] < 0.03


def test_photos_of_many_kinds(case: Case, tmp_path: Path) -> None:
    from pillow_heif import register_heif_opener

    register_heif_opener()
    kinds = [("jpg", "JPEG"), ("png", "PNG"), ("tif", "TIFF"), ("webp", "WEBP"), ("heic", "HEIF")]
    (tmp_path / "mixed").mkdir()
    for index, photo in enumerate(case.photos):
        suffix, kind = kinds[index % len(kinds)]
        with Image.open(photo) as picture:
            exif = picture.getexif()
            picture.save(tmp_path / "mixed" / f"{photo.stem}.{suffix}", kind, quality=95, exif=exif)
    case.reconstruct(tmp_path / "out", "--until", "sfm", photos=tmp_path / "mixed")
    found = summary(tmp_path / "out", "sfm")
    case.say(f"{len(found['registered'])} of {len(case.photos)} photos of 5 kinds placed")
    assert len(found["registered"]) == len(case.photos)


def test_photos_of_two_cameras(case: Case, tmp_path: Path) -> None:
    """Every other photo is of a smaller camera, and two thirds as large."""
    (tmp_path / "mixed").mkdir()
    for index, photo in enumerate(case.photos):
        with Image.open(photo) as picture:
            if index % 2:
                size = (picture.width * 2 // 3, picture.height * 2 // 3)
                small = picture.resize(size, Image.Resampling.LANCZOS)
                small.save(tmp_path / "mixed" / photo.name, quality=95, exif=picture.getexif())
            else:
                shutil.copyfile(photo, tmp_path / "mixed" / photo.name)
    out = case.reconstruct(tmp_path / "out", "--until", "sfm", photos=tmp_path / "mixed")
    found, scene = summary(out, "sfm"), Results(Workspace(out)).scene
    case.say(f"{len(found['registered'])} of {len(case.photos)} photos of 2 cameras placed")
    assert len(found["registered"]) == len(case.photos)
    focal = [scene[photo.name].camera.mean_focal_px for photo in case.photos]
    assert np.median(focal[1::2]) == pytest.approx(np.median(focal[::2]) * 2 / 3, rel=0.03)


def check_same_depth(case: Case, model: Path, out: Path) -> None:
    case.reconstruct(out, "--model", str(model), "--until", "refine")
    again, before = depth_hashes(out), depth_hashes(case.out)
    same = sum(again[name] == before[name] for name in before)
    case.say(f"--model {model.name}: {same} of {len(before)} depth maps have equal hashes")
    assert again == before


def test_the_model_that_sfm_found_gives_the_same_depth(large_case: Case, tmp_path: Path) -> None:
    check_same_depth(large_case, large_case.model, tmp_path / "out")


def test_the_same_model_as_text_gives_the_same_depth(case: Case, tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    pycolmap.Reconstruction(str(case.model)).write_text(str(tmp_path / "text"))
    check_same_depth(case, tmp_path / "text", tmp_path / "out")


def test_a_model_with_a_distorted_lens(large_case: Case, tmp_path: Path) -> None:
    if large_case.synthetic is None:
        pytest.skip("needs exact pictures without distortion")
    write_distorted(tmp_path / "given", large_case)
    options = ("--model", str(tmp_path / "given/model"), "--until", "refine")
    out = large_case.reconstruct(tmp_path / "out", *options, photos=tmp_path / "given/images")
    scene = pycolmap.Reconstruction(str(out / "sfm/undistorted/sparse"))
    assert {camera.model_name for camera in scene.cameras.values()} == {"PINHOLE"}
    error, full = large_case.error(out), large_case.error(large_case.out)
    large_case.say(f"distorted model: {in_words(error)}")
    assert error["abs_rel"] < WORSE * full["abs_rel"]


def check_poses(case: Case, transforms: Path, out: Path) -> None:
    case.reconstruct(out, "--poses", str(transforms), "--until", "refine")
    error, full = case.error(out), case.error(case.out)
    case.say(f"poses only: {in_words(error)}, full run {in_words(full)}")
    assert error["abs_rel"] < WORSE * full["abs_rel"]
    assert error["median_rel"] < WORSE * full["median_rel"]


def test_true_poses_without_points(case: Case, tmp_path: Path) -> None:
    if case.synthetic is None:
        pytest.skip("a tracker's poses are not exact")
    write_true_poses(tmp_path / "transforms.json", case)
    check_poses(case, tmp_path / "transforms.json", tmp_path / "out")


def test_found_poses_without_points(large_case: Case, tmp_path: Path) -> None:
    write_poses(tmp_path / "transforms.json", large_case.model)
    check_poses(large_case, tmp_path / "transforms.json", tmp_path / "out")


def test_masks_of_both_namings(case: Case, tmp_path: Path) -> None:
    """The left half of two photos is masked, one by each naming."""
    first, second = case.photos[1], case.photos[2]
    (tmp_path / "masks").mkdir()
    for photo, name in ((first, f"{first.stem}.png"), (second, f"{second.name}.png")):
        with Image.open(photo) as picture:
            mask = np.full((picture.height, picture.width), 255, np.uint8)
        mask[:, : mask.shape[1] // 2] = 0
        Image.fromarray(mask).save(tmp_path / "masks" / name)
    views = [part for photo in case.photos[:4] for part in ("--views", photo.name)]
    out = case.reconstruct(tmp_path / "out", "--masks", str(tmp_path / "masks"), *views)
    assert summary(out, "prepare")["masks"] == 2
    database = pycolmap.Database.open(str(out / "sfm/database.db"))
    for image in database.read_all_images():
        x = database.read_keypoints(image.image_id)[:, 0]
        width = database.read_camera(image.camera_id).width
        masked = image.name in (first.name, second.name)
        assert (x < width / 2 - 1).any() == (not masked), image.name
    results = Results(Workspace(out))
    assert run(["export", str(out), "--to", "depth", "--depth-as", "npz", "-q"]) == ExitCode.DONE
    for name in (first.name, second.name):
        mask = load_mask(results.scene[name])
        assert mask is not None
        assert 0.4 < mask.mean() < 0.6
        confirmed = results.consistent(name)
        assert confirmed is not None
        assert not confirmed[~mask].any()
        assert confirmed.any()
        with np.load(out / f"export/depth/npz/{name}.npz") as stored:
            assert not stored["depth"][~mask].any()
    case.say("masks: none of the keypoints, points and exported depth lies in them")


def test_some_views_only(case: Case, tmp_path: Path) -> None:
    name = case.photos[1].name
    options = ("--model", str(case.model), "--views", f"{name[:-5]}?.*", "--until", "refine")
    out = case.reconstruct(tmp_path / "out", *options)
    chosen = Results(Workspace(out)).views("refine")
    expected = [p.name for p in case.photos if p.stem[:-1] == case.photos[1].stem[:-1]]
    case.say(f"--views: {', '.join(chosen)} refined")
    assert list(chosen) == expected
    assert name in chosen


def test_own_depth_maps(large_case: Case, tmp_path: Path) -> None:
    if large_case.synthetic is None:
        pytest.skip("the full run starts from given maps")
    maps = tmp_path / "maps"
    maps.mkdir()
    for index, view in enumerate(large_case.synthetic.views):
        prior = large_case.synthetic.simulated_prior(index)
        np.save(maps / f"{Path(view.name).stem}.npy", prior.values)
    out = large_case.reconstruct(
        tmp_path / "out",
        *("--model", str(large_case.model), "--until", "refine"),
        prior=("--depth-maps", str(maps), "--depth-kind", "inverse_affine"),
    )
    error, full = large_case.error(out), large_case.error(large_case.out)
    large_case.say(f"own maps: {in_words(error)}, full run {in_words(full)}")
    assert error["abs_rel"] < WORSE * full["abs_rel"]


def test_the_published_methods_layout(case: Case, tmp_path: Path) -> None:
    """`transforms.json`, a sparse COLMAP model, 16-bit depth PNGs, one view named."""
    given, name = tmp_path / "scene", case.photos[2].name
    shutil.copytree(case.folder / "photos", given / "images")
    shutil.copytree(case.model, given / "sparse")
    write_poses(given / "transforms.json", case.model)
    if case.synthetic is None:
        maps = [(photo.stem, np.load(case.maps / f"{photo.stem}.npy")) for photo in case.photos]
        kind = "inverse_affine"
    else:
        maps = [(Path(view.name).stem, view.depth) for view in case.synthetic.views]
        kind = "affine"
    write_maps(given / "depth", maps)
    # The command that the README has.
    out = case.reconstruct(
        tmp_path / "out",
        *("--model", str(given / "sparse"), "--views", name),
        photos=given / "images",
        prior=("--depth-maps", str(given / "depth"), "--depth-kind", kind),
    )
    results = Results(Workspace(out))
    assert results.views("refine") == (name,)
    error, full = case.error(out, name), case.error(case.out, name)
    case.say(f"published layout, one view: {in_words(error)}, full run {in_words(full)}")
    assert error["abs_rel"] < WORSE * full["abs_rel"]


def test_a_video_of_20_seconds(large_case: Case, tmp_path: Path) -> None:
    if large_case.synthetic is None:
        pytest.skip("the film is rendered")
    pytest.importorskip("av")
    write_video(tmp_path / "room.mp4", large_case.synthetic, seconds=20, fps=15)
    out = large_case.reconstruct(tmp_path / "out", photos=tmp_path / "room.mp4")
    found = summary(out, "sfm")
    placed, lost = len(found["registered"]), len(found["failed"])
    large_case.say(f"video: {placed} of {placed + lost} chosen frames placed")
    assert placed >= 0.9 * (placed + lost)
    assert placed >= 8
    assert summary(out, "fuse")["points"] > 10_000
