"""`docs/make_gallery.py`: pictures of a run against the photos and the exact depth."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from refdepth.errors import InputError
from refdepth.fusion import fuse_mesh
from refdepth.io.images import load_rgb
from refdepth.pipeline.results import Results
from refdepth.pipeline.workspace import Workspace
from refdepth.types.camera import PinholeCamera, camera_center, invert_pose
from refdepth.types.cloud import PointCloud

SCRIPT = Path(__file__).parents[2] / "docs" / "make_gallery.py"


@pytest.fixture(scope="module")
def gallery() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_gallery", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def results(finished: Workspace) -> Results:
    return Results(finished)


def test_every_picture_of_the_page_is_there_and_small(
    gallery: ModuleType, results: Results, tmp_path: Path
) -> None:
    page = tmp_path / "gallery.md"
    gallery.write_page(results, page)
    shown = re.findall(r"!\[.*\]\((.*)\)", page.read_text())
    assert len(shown) == 7
    for name in shown:
        with Image.open(tmp_path / name) as picture:
            assert picture.width == gallery.WIDTH_PX
    assert sum((tmp_path / name).stat().st_size for name in shown) < 400_000


def test_a_view_that_is_not_there_is_named(
    gallery: ModuleType, results: Results, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"no refined depth of nobody\.jpg"):
        gallery.write_page(results, tmp_path / "gallery.md", "nobody.jpg")


def test_a_cloud_seen_from_a_photos_place_shows_the_photo(
    gallery: ModuleType, results: Results
) -> None:
    view = results.scene[results.scene.names[3]]
    seen = gallery.cloud_picture(results.cloud(), view.camera, view.cam_from_world)
    photo = load_rgb(view)
    assert seen.shape == photo.shape
    drawn = (seen != 255).any(axis=2)
    assert drawn.mean() > 0.9
    off = np.abs(seen.astype(float) - photo).mean(axis=2)[drawn]
    moved = np.abs(seen.astype(float) - np.roll(photo, 3, axis=1)).mean(axis=2)[drawn]
    assert np.median(off) < 8
    assert off.mean() < 0.6 * moved.mean()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_nearer_point_hides_the_farther(gallery: ModuleType, order: tuple[int, int]) -> None:
    camera = PinholeCamera(K=np.array([[20, 0, 8], [0, 20, 6], [0, 0, 1.0]]), width=16, height=12)
    cloud = PointCloud(
        points=np.array([[0, 0, 1.0], [0, 0, 2]]),
        normals=np.array([[0, 0, -1], [0, 0, -1]], np.float32),
        colors=np.array([[200, 0, 0], [0, 0, 200]], np.uint8),
        confidence=np.ones(2, np.float32),
    ).select(np.array(order))
    seen = gallery.cloud_picture(cloud, camera, np.eye(4))
    assert seen[6, 8].tolist() == [200, 0, 0]


def test_a_mesh_covers_what_has_depth_and_faces_the_camera(
    gallery: ModuleType, results: Results
) -> None:
    view = results.scene[results.scene.names[3]]
    mesh = fuse_mesh(results.scene, results.fused)
    seen = gallery.mesh_picture(mesh, view.camera, view.cam_from_world)
    assert (seen != 255).any(axis=2)[results.fused(view.name).valid].mean() > 0.9
    assert np.median(seen) > 120


def test_another_side_looks_at_the_same_middle_from_the_side_that_is_said(
    gallery: ModuleType, results: Results
) -> None:
    view = results.scene[results.scene.names[3]]
    depth = results.refined(view.name).depth
    distance = float(np.median(depth))
    for turn in (-32.0, 32.0):
        pose = gallery.aside(results.scene, view, depth, turn)
        middle = invert_pose(view.cam_from_world) @ [0, 0, distance, 1]
        assert np.allclose((pose @ middle)[:2], 0, atol=1e-6 * distance)
        place = view.cam_from_world @ [*camera_center(pose), 1]
        assert place[0] * turn > 0  # x to the right
        assert place[1] < 0  # y down: higher up
