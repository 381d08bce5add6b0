"""The user's own maps: found by name, turned and bent into the view's grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from refdepth.errors import InputError
from refdepth.geometry.lens import InputPhoto
from refdepth.io.depth_files import write_depth_file
from refdepth.priors.maps import MapsPrior
from refdepth.types.camera import PinholeCamera
from refdepth.types.prior import PriorKind
from refdepth.types.scene import Scene, SparsePoints, View

PHOTO = InputPhoto(
    name="sub/a.jpg",
    camera_model="SIMPLE_RADIAL",
    width=80,
    height=60,
    camera_params=(70.0, 40.0, 30.0, -0.12),
)


def radius_map(width: int, height: int) -> np.ndarray:
    """1 + the distance from the photo's middle, in photo pixels, at another resolution."""
    y, x = np.mgrid[:height, :width] + 0.5
    return np.hypot(x * 80 / width - 40, y * 60 / height - 30).astype(np.float32) + 1


@pytest.fixture
def view(tmp_path: Path) -> View:
    K = np.array([[70.0, 0, 40], [0, 70.0, 30], [0, 0, 1]])
    return View(
        name="a.png",
        camera=PinholeCamera(K=K, width=80, height=60),
        cam_from_world=np.eye(4),
        point_index=np.empty(0, np.int64),
        point_xy=np.empty((0, 2)),
        image_path=tmp_path / "a.png",
    )


@pytest.fixture
def scene(view: View) -> Scene:
    nothing = SparsePoints(
        xyz=np.empty((0, 3)),
        rgb=np.empty((0, 3), np.uint8),
        error_px=np.empty(0),
        track_length=np.empty(0, np.int64),
    )
    return Scene([view], nothing)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "maps" / "sub").mkdir(parents=True)
    return tmp_path / "maps"


def prior_of(folder: Path, kind: PriorKind = PriorKind.AFFINE, **changes: object) -> MapsPrior:
    return MapsPrior(folder, kind, lambda view: replace(PHOTO, **changes))


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".tif", ".png"])
@pytest.mark.parametrize("size", [(80, 60), (160, 120), (41, 31)])
def test_maps_are_carried_through_the_lens_at_any_resolution(
    folder: Path, view: View, scene: Scene, suffix: str, size: tuple[int, int]
) -> None:
    write_depth_file(folder / f"sub/a{suffix}", radius_map(*size))
    prior = prior_of(folder).estimate(view, scene)
    u, v = view.camera.rays()[..., 0], view.camera.rays()[..., 1]
    r2 = u**2 + v**2
    expected = 1 + 70 * np.sqrt(r2) * (1 - 0.12 * r2)
    assert prior.kind == PriorKind.AFFINE
    assert not prior.in_metres
    away = expected > 4  # the cone's tip is not linear
    inner = np.s_[2:-2, 2:-2]
    np.testing.assert_allclose(
        prior.values[inner][away[inner]], expected[inner][away[inner]], atol=0.15
    )


def test_maps_in_the_stored_grid_are_turned_like_their_photo(
    folder: Path, view: View, scene: Scene
) -> None:
    upright = np.random.default_rng(0).uniform(1, 2, (60, 80)).astype(np.float32)
    straight = {"camera_model": "PINHOLE", "camera_params": (70.0, 70.0, 40.0, 30.0)}
    np.save(folder / "sub/a.npy", np.rot90(upright))  # orientation 6: turn clockwise to show
    turned = prior_of(folder, orientation=6, **straight).estimate(view, scene)
    np.testing.assert_allclose(turned.values, upright, atol=1e-6)
    np.save(folder / "sub/a.npy", upright)
    shown = prior_of(folder, orientation=6, **straight).estimate(view, scene)
    np.testing.assert_allclose(shown.values, upright, atol=1e-6)


def test_metric_maps_are_metres_and_zero_is_unknown(folder: Path, view: View, scene: Scene) -> None:
    values = np.full((60, 80), 2.0, np.float32)
    values[:, :20] = 0
    write_depth_file(folder / "sub/a.png", values)
    prior = prior_of(folder, PriorKind.METRIC).estimate(view, scene)
    assert prior.in_metres
    assert np.isnan(prior.values[:, :18]).all()
    np.testing.assert_allclose(prior.values[:, 22:], 2.0)


def test_names_are_found_in_a_fixed_order(folder: Path) -> None:
    prior = prior_of(folder)
    for name in ("a.png", "a.tif", "a.npy", "a.jpg.npz"):
        (folder / "sub" / name).touch()
        found = prior.find("sub/a.jpg")
        assert found is not None
        assert found.name == name


def test_missing_maps_are_listed_and_refused_by_name(
    folder: Path, view: View, scene: Scene
) -> None:
    prior = prior_of(folder)
    assert prior.missing(scene) == ("a.png",)
    with pytest.raises(InputError, match=r"no depth map for sub/a\.jpg"):
        prior.estimate(view, scene)
    write_depth_file(folder / "sub/a.npy", radius_map(80, 60))
    assert prior.missing(scene) == ()


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/a.jpg", "sub/../../a.jpg", "..\\a.jpg", ""])
def test_names_may_not_leave_the_folder(folder: Path, name: str) -> None:
    with pytest.raises(InputError, match="leads out of the folder"):
        prior_of(folder).find(name)


def test_links_may_not_leave_the_folder(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "secret.npy", np.ones((60, 80)))
    (folder / "sub/a.npy").symlink_to(tmp_path / "secret.npy")
    with pytest.raises(InputError, match="link that leads out"):
        prior_of(folder).find("sub/a.jpg")


def test_a_map_of_another_shape_is_refused_with_both_sizes(
    folder: Path, view: View, scene: Scene
) -> None:
    np.save(folder / "sub/a.npy", np.ones((60, 60)))
    with pytest.raises(InputError, match=r"map is 60x60, its photo 80x60"):
        prior_of(folder).estimate(view, scene)


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        prior_of(tmp_path / "absent")


def test_identity_tells_what_changes_the_result(folder: Path) -> None:
    assert prior_of(folder).identity == prior_of(folder).identity
    assert prior_of(folder).identity != prior_of(folder, PriorKind.METRIC).identity
    assert str(folder) not in str(prior_of(folder).identity)
