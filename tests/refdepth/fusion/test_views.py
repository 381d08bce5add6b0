"""The size of voxels: what all views see, not what the first one sees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from exact_room import make_exact_room
from numpy.testing import assert_allclose
from wall_scene import FAR, FOCAL, HEIGHT, WIDTH

from refdepth.fusion import FusionSettings, MeshSettings, fuse, fuse_mesh
from refdepth.fusion.views import typical_spacing
from refdepth.io.images import read_rgb
from refdepth.types.camera import PinholeCamera, pose_matrix
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene

NEARER, FARTHER = FAR / 100, FAR * 1000


def flat_wall(wall) -> tuple[Scene, dict[str, DepthMap]]:
    """Five cameras before one wall at z = `FAR`."""
    scene, maps = wall
    depth = np.full((HEIGHT, WIDTH), FAR, np.float32)
    return scene, {name: replace(found, depth=depth) for name, found in maps.items()}


def with_first_view_at(
    distance: float, scene: Scene, maps: dict[str, DepthMap], name: str = "+.png"
) -> tuple[Scene, dict[str, DepthMap]]:
    """One view more, in name before the others, at `distance` from the wall. A pixel's centre
    looks straight ahead, so that even the far one has a pixel on what the others see."""
    K = np.array([[FOCAL, 0, WIDTH / 2 + 0.5], [0, FOCAL, HEIGHT / 2 + 0.5], [0, 0, 1]])
    view = replace(
        scene.views[2],
        name=name,
        camera=PinholeCamera(K=K, width=WIDTH, height=HEIGHT),
        cam_from_world=pose_matrix(np.eye(3), [0, 0, distance - FAR]),
    )
    depth = np.full((HEIGHT, WIDTH), distance, np.float32)
    added = {name: DepthMap(depth=depth, confidence=np.full_like(depth, 0.8))}
    return Scene([view, *scene.views], scene.points), {**maps, **added}


@pytest.mark.parametrize("distance", [NEARER, FARTHER])
@pytest.mark.parametrize("name", ["+.png", "z.png"])
def test_one_view_at_another_distance_does_not_set_the_spacing(wall, distance, name):
    scene, maps = flat_wall(wall)
    more, more_maps = with_first_view_at(distance, scene, maps, name)
    assert typical_spacing(more, more_maps.__getitem__) == pytest.approx(FAR / FOCAL)


@pytest.mark.parametrize("distance", [NEARER, FARTHER])
def test_a_first_view_at_another_distance_leaves_the_cloud_as_dense_as_it_was(wall, distance):
    scene, maps = flat_wall(wall)
    more, more_maps = with_first_view_at(distance, scene, maps)
    plain = fuse(scene, maps.__getitem__, FusionSettings())
    cloud = fuse(more, more_maps.__getitem__, FusionSettings())
    before, after = (aside(c.points) for c in (plain, cloud))
    assert after == pytest.approx(before, rel=0.02)


@pytest.mark.parametrize("distance", [NEARER, FARTHER])
def test_a_first_view_at_another_distance_leaves_the_mesh_as_fine_as_it_was(wall, distance):
    scene, maps = flat_wall(wall)
    more, more_maps = with_first_view_at(distance, scene, maps)
    plain = fuse_mesh(scene, maps.__getitem__, MeshSettings())
    mesh = fuse_mesh(more, more_maps.__getitem__, MeshSettings())
    assert aside(mesh.vertices) == pytest.approx(aside(plain.vertices), rel=0.05)


def aside(points: np.ndarray) -> int:
    """How many points lie aside of what the near view sees, and within what the others see."""
    radius = np.abs(points[:, :2]).max(axis=1)
    return int(((radius > 0.1) & (radius < 1.2)).sum())


def test_sfm_points_give_the_spacing_without_reading_depth(tmp_path):
    room = make_exact_room(tmp_path)
    focal = room.scene.views[0].camera.mean_focal_px
    exact = np.median([np.median(depth[depth > 0]) for depth in room.depth.values()]) / focal

    def refuse(name: str) -> DepthMap:
        raise AssertionError(name)

    assert typical_spacing(room.scene, refuse) == pytest.approx(exact, rel=0.3)


def test_a_scene_without_depth_has_a_spacing_all_the_same(wall):
    scene, maps = wall
    empty = {n: DepthMap(depth=m.depth * 0, confidence=m.confidence * 0) for n, m in maps.items()}
    assert typical_spacing(scene, empty.__getitem__) == 1.0


def test_the_photo_comes_as_it_is_stored(wall):
    scene, maps = wall
    near = maps["2.png"].depth < 3
    assert_allclose(read_rgb(scene["2.png"].image_path)[near], [[200, 200, 100]] * int(near.sum()))
