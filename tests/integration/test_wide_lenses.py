"""Panoramas and fisheyes through the whole pipeline, against the room's exact distances."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from refdepth._pycolmap import pycolmap
from refdepth.cli.main import run
from refdepth.evaluation.alignment import robust_sim3
from refdepth.fusion import FusionSettings, beside_of, check_view, draw_together, sources_of
from refdepth.ingest.panoramas import FACE_FROM_PANORAMA, Face, face_focal_px
from refdepth.pipeline.results import Results
from refdepth.pipeline.stages.prepare import read_table
from refdepth.pipeline.workspace import Workspace
from refdepth.synthetic import (
    SyntheticPanorama,
    SyntheticScene,
    make_panoramas,
    make_scene,
    tracer,
    write_panoramas,
)
from refdepth.types.camera import camera_center, invert_pose

OPTIONS = ("--depth-model", "sweep", "--quality", "fast", "--quiet")


@pytest.fixture(scope="module")
def panoramas() -> list[SyntheticPanorama]:
    return make_panoramas(5, 512)


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory, panoramas: list[SyntheticPanorama]) -> Path:
    """The output folder of a run on them; not to be changed."""
    folder = tmp_path_factory.mktemp("walk")
    write_panoramas(panoramas, folder / "photos")
    assert run(["reconstruct", str(folder / "photos"), str(folder / "out"), *OPTIONS]) == 0
    return folder / "out"


def placing_of(results: Results, panoramas: list[SyntheticPanorama]) -> float:
    """Metres a unit, by the panoramas' centres."""
    rows = {row.name: row for row in read_table(results.workspace)}
    true = {panorama.name: panorama.world_from_panorama[:3, 3] for panorama in panoramas}
    names = [n for n in results.scene.names if (f := rows[n].face) and f.face is Face.FRONT]
    centers = np.array([results.scene[name].center for name in names])
    placing = robust_sim3(
        centers, np.array([true[rows[name].given] for name in names]), method="poses"
    )
    return float(placing.scale)


def exact_face(panorama: SyntheticPanorama, face: Face, side: int) -> NDArray[np.float32]:
    focal = face_focal_px(side)
    K = np.array([[focal, 0, side / 2], [0, focal, side / 2], [0, 0, 1]])
    return panorama.depth(K, FACE_FROM_PANORAMA[face].T, (side, side))[0]


def test_all_panoramas_are_placed_and_their_depth_is_right(
    walk: Path, panoramas: list[SyntheticPanorama]
) -> None:
    results = Results(Workspace(walk))
    rows = {row.name: row for row in read_table(results.workspace)}
    assert set(results.views("refine")) == set(rows)
    assert len(rows) == 6 * len(panoramas)
    by_name = {panorama.name: panorama for panorama in panoramas}
    scale, right = placing_of(results, panoramas), []
    for name in results.scene.names:
        row, depth = rows[name], results.refined(name).depth
        assert row.face is not None
        true = exact_face(by_name[row.given], row.face.face, row.width)
        right.append((np.abs(depth * scale / true - 1) < 0.05).mean())
    assert np.mean(right) > 0.6


def test_faces_fade_into_each_other_in_the_stage_as_in_the_library(walk: Path) -> None:
    results, settings = Results(Workspace(walk)), FusionSettings()
    scene, refined = results.scene, results.refined
    sources = {view.name: sources_of(view, scene, settings) for view in scene.views}
    maps = {
        view.name: check_view(view, sources[view.name], refined, settings).depth_map
        for view in scene.views
    }
    for _ in range(settings.rounds):
        before = dict(maps)
        for view in scene.views:
            beside = beside_of(view, scene)
            assert len(beside) == 5
            drawn = draw_together(view, sources[view.name], before.__getitem__, settings, beside)
            maps[view.name] = drawn.depth_map
    # What is stored between rounds is rounded, so that single pixels fall on the other side.
    stored, expected = (
        np.concatenate([of(name).depth.ravel() for name in scene.names])
        for of in (results.fused, maps.__getitem__)
    )
    assert (np.abs(stored - expected) > 3e-4 * expected).mean() < 1e-3


def test_a_finished_run_is_not_made_again(walk: Path) -> None:
    files = {path: path.stat().st_mtime_ns for path in walk.rglob("*.npz")}
    assert run(["reconstruct", str(walk.parent / "photos"), str(walk), *OPTIONS]) == 0
    assert files == {path: path.stat().st_mtime_ns for path in walk.rglob("*.npz")}


def test_trainers_get_the_faces(walk: Path, tmp_path: Path) -> None:
    formats = ("colmap", "nerfstudio", "graphdeco", "gsplat", "splat")
    asked = [part for name in formats for part in ("--to", name)]
    assert run(["export", str(walk), *asked, "--output", str(tmp_path), "--quiet"]) == 0
    names = set(Results(Workspace(walk)).scene.names)
    for kind, sparse in (
        ("colmap", "sparse"),
        ("graphdeco", "sparse/0"),
        ("gsplat", "sparse/0"),
        ("splat", "sparse/0"),
    ):
        model = pycolmap.Reconstruction(str(tmp_path / kind / sparse))
        assert {image.name for image in model.images.values() if image.has_pose} == names
        for image in model.images.values():
            assert image.camera.model_name == "PINHOLE"
            with Image.open(tmp_path / kind / "images" / image.name) as picture:
                assert picture.size == (image.camera.width, image.camera.height)
    frames = json.loads((tmp_path / "nerfstudio" / "transforms.json").read_text())["frames"]
    assert len(frames) == len(names)


FISHEYE_SHAPE, FISHEYE_FOCAL = (240, 320), 120.0
"""An equidistant lens, which sees 153 degrees from side to side and 191 between corners."""


@pytest.fixture(scope="module")
def room() -> SyntheticScene:
    return make_scene(views=8, width=64, height=48)


def fisheye_calibration() -> NDArray[np.float64]:
    height, width = FISHEYE_SHAPE
    return np.array([[FISHEYE_FOCAL, 0, width / 2], [0, FISHEYE_FOCAL, height / 2], [0, 0, 1]])


@pytest.fixture(scope="module")
def fisheyes(tmp_path_factory: pytest.TempPathFactory, room: SyntheticScene) -> Path:
    """The output folder of a run on fisheye photos without EXIF."""
    folder = tmp_path_factory.mktemp("fisheyes")
    (folder / "photos").mkdir()
    for view in room.views:
        pose = invert_pose(view.cam_from_world)
        lens = tracer.FISHEYE
        image = room.world.picture(fisheye_calibration(), pose, FISHEYE_SHAPE, lens=lens)
        pixels = np.round(255 * image.clip(0, 1)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / view.name, quality=95, subsampling=0)
    command = ["reconstruct", str(folder / "photos"), str(folder / "out"), *OPTIONS]
    assert run([*command, "--set", "sfm.camera_model=OPENCV_FISHEYE"]) == 0
    return folder / "out"


def test_a_fisheye_without_exif_is_calibrated(fisheyes: Path, room: SyntheticScene) -> None:
    model = pycolmap.Reconstruction(str(fisheyes / "sfm" / "sparse"))
    assert model.num_reg_images() == len(room.views)
    (camera,) = model.cameras.values()
    assert camera.model_name == "OPENCV_FISHEYE"
    assert camera.params[0] == pytest.approx(FISHEYE_FOCAL, rel=0.02)


def test_ray_depth_comes_back_in_the_fisheyes_own_pixels(
    fisheyes: Path, room: SyntheticScene, tmp_path: Path
) -> None:
    asked = ["--to", "depth", "--grid", "original", "--ray-depth", "--depth-as", "npz"]
    assert run(["export", str(fisheyes), *asked, "--output", str(tmp_path), "--quiet"]) == 0
    scene = Results(Workspace(fisheyes)).scene
    true = np.array([camera_center(view.cam_from_world) for view in room.views])
    centers = np.array([scene[view.name].center for view in room.views])
    scale, shares = robust_sim3(centers, true, method="poses").scale, []
    K, (height, width) = fisheye_calibration(), FISHEYE_SHAPE
    x, y = np.meshgrid(np.arange(width) + 0.5 - K[0, 2], np.arange(height) + 0.5 - K[1, 2])
    backwards = np.hypot(x, y) > FISHEYE_FOCAL * np.pi / 2
    assert backwards.any()
    for view in room.views:
        pose = invert_pose(view.cam_from_world)
        exact, _ = room.world.depth(K, pose, FISHEYE_SHAPE, lens=tracer.FISHEYE)
        (file,) = (tmp_path / "depth").rglob(f"{Path(view.name).stem}*.npz")
        with np.load(file) as stored:
            depth = stored["depth"]
        assert depth.shape == FISHEYE_SHAPE
        known = depth > 0
        assert not known[backwards].any()  # no pinhole picture shows what lies behind
        assert known.mean() > 0.4
        shares.append((np.abs(depth * scale / exact - 1) < 0.05)[known].mean())
    assert np.mean(shares) > 0.7
