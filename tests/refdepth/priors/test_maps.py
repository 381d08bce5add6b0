"""The user's own maps: found by name, turned and bent into the view's grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from refdepth.errors import ConfigurationError, InputError
from refdepth.geometry.lens import InputPhoto, sample_map
from refdepth.ingest import NameTable
from refdepth.io.depth_files import write_depth_file
from refdepth.priors.maps import MapsPrior
from refdepth.priors.resolution import in_photo
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


def prior_of(
    folder: Path,
    kind: PriorKind = PriorKind.AFFINE,
    unit: float | None = None,
    **changes: object,
) -> MapsPrior:
    return MapsPrior(folder, kind, lambda view: replace(PHOTO, **changes), unit=unit)


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
    values = prior.values / (1000 if suffix == ".png" else 1)  # written as levels of 0.001
    assert prior.kind == PriorKind.AFFINE
    assert not prior.in_metres
    away = expected > 4  # the cone's tip is not linear
    inner = np.s_[2:-2, 2:-2]
    np.testing.assert_allclose(values[inner][away[inner]], expected[inner][away[inner]], atol=0.15)


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


@pytest.mark.parametrize(("suffix", "unit"), [(".png", 0.001), (".npy", 1.0), (".npz", 0.3048)])
def test_metric_maps_are_metres_where_their_unit_is_declared_and_zero_is_unknown(
    folder: Path, view: View, scene: Scene, suffix: str, unit: float
) -> None:
    metres = np.full((60, 80), 2.0, np.float32)
    metres[:, :20] = 0
    stored = metres if suffix == ".png" else metres / unit
    write_depth_file(folder / f"sub/a{suffix}", stored, png_scale=unit)
    prior = prior_of(folder, PriorKind.METRIC, unit).estimate(view, scene)
    assert prior.in_metres
    assert np.isnan(prior.values[:, :18]).all()
    np.testing.assert_allclose(prior.values[:, 22:], 2.0, rtol=1e-6)


def test_metric_maps_without_a_declared_unit_are_scale_free(
    folder: Path, view: View, scene: Scene
) -> None:
    levels = np.full((60, 80), 2.0, np.float32)
    levels[:, :20] = 0
    write_depth_file(folder / "sub/a.png", levels, png_scale=0.001)
    prior = prior_of(folder, PriorKind.METRIC).estimate(view, scene)
    assert not prior.in_metres
    assert np.isnan(prior.values[:, :18]).all()
    np.testing.assert_array_equal(prior.values[:, 22:], 2000)


@pytest.mark.parametrize("kind", [PriorKind.AFFINE, PriorKind.INVERSE_AFFINE])
def test_a_unit_of_maps_that_have_none_is_refused(folder: Path, kind: PriorKind) -> None:
    with pytest.raises(ConfigurationError, match="have no unit"):
        prior_of(folder, kind, 0.001)


def test_without_photos_maps_are_in_the_grid_of_the_views_own_picture(
    folder: Path, view: View, scene: Scene
) -> None:
    exact = np.random.default_rng(0).uniform(1, 2, (60, 80)).astype(np.float32)
    np.save(folder / "a.npy", exact)
    prior = MapsPrior(folder, "affine")
    assert prior.missing(scene) == ()
    np.testing.assert_allclose(prior.estimate(view, scene).values, exact, atol=1e-6)


def test_names_are_found_in_a_fixed_order(folder: Path, view: View, scene: Scene) -> None:
    for name in ("a.png", "a.tif", "a.npy", "a.jpg.npz"):
        (folder / "sub" / name).touch()
        found = prior_of(folder).find(view, scene)
        assert found is not None
        assert found.name == name


def test_a_map_that_may_be_of_two_photos_is_refused(folder: Path, view: View, scene: Scene) -> None:
    np.save(folder / "sub/a.npy", np.ones((60, 80)))
    names = NameTable({"a.png": "sub/a.jpg", "other.png": "sub/a.tif"})
    prior = MapsPrior(folder, "affine", lambda view: PHOTO, names=names)
    with pytest.raises(InputError, match=r"any of the photos sub/a\.jpg, sub/a\.tif"):
        prior.estimate(view, scene)


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
def test_names_may_not_leave_the_folder(folder: Path, view: View, scene: Scene, name: str) -> None:
    with pytest.raises(InputError, match="leads out of the folder"):
        prior_of(folder, name=name).find(view, scene)


def test_linked_maps_are_used_as_linked_photos_are(
    folder: Path, view: View, scene: Scene, tmp_path: Path
) -> None:
    np.save(tmp_path / "elsewhere.npy", np.full((60, 80), 3.0))
    (folder / "sub/a.npy").symlink_to(tmp_path / "elsewhere.npy")
    np.testing.assert_allclose(prior_of(folder).estimate(view, scene).values[5:-5, 5:-5], 3)


def test_a_map_of_another_shape_is_refused_with_both_sizes(
    folder: Path, view: View, scene: Scene
) -> None:
    np.save(folder / "sub/a.npy", np.ones((60, 60)))
    with pytest.raises(InputError, match=r"map is 60x60, its photo 80x60"):
        prior_of(folder).estimate(view, scene)


@pytest.mark.parametrize(
    ("photo", "size"),
    [
        ((640, 480), (352, 256)),  # of 32 px, both up or to the nearest
        ((640, 480), (518, 392)),  # of 14 px, both to the nearest
        ((1000, 700), (544, 384)),  # of 16 px, both up
        ((1920, 1080), (448, 256)),  # of 32 px, down and up to the nearest
        ((480, 640), (256, 352)),
    ],
)
def test_a_map_rounded_to_whole_patches_covers_the_whole_photo(
    folder: Path, view: View, scene: Scene, photo: tuple[int, int], size: tuple[int, int]
) -> None:
    width, height = photo
    K = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
    view = replace(view, camera=PinholeCamera(K=K, width=width, height=height))
    x = (np.arange(size[0]) + 0.5) / size[0]
    y = (np.arange(size[1]) + 0.5) / size[1]
    np.save(folder / "a.npy", (2 * x + y[:, None]).astype(np.float32))
    prior = MapsPrior(folder, "affine").estimate(view, scene)
    found = in_photo(prior, view.camera.shape).values
    x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    inner = np.s_[4:-4, 4:-4]
    np.testing.assert_allclose(found[inner], (2 * x + y[:, None])[inner], atol=1e-5)


@pytest.mark.parametrize(
    ("photo", "size"),
    [
        ((640, 480), (384, 256)),  # 3:2, which no rounding of one scale gives
        ((640, 480), (518, 518)),
        ((640, 480), (256, 256)),
        ((640, 480), (353, 256)),  # no whole patches
        ((640, 480), (64, 64)),  # patches too few to tell
    ],
)
def test_other_shapes_stay_refused(
    folder: Path, view: View, scene: Scene, photo: tuple[int, int], size: tuple[int, int]
) -> None:
    np.save(folder / "sub/a.npy", np.ones(size[::-1], np.float32))
    given = replace(PHOTO, width=photo[0], height=photo[1])
    with pytest.raises(InputError, match=f"map is {size[0]}x{size[1]}, its photo 640x480"):
        MapsPrior(folder, "affine", lambda view: given).estimate(view, scene)


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        prior_of(tmp_path / "absent")


def test_identity_tells_what_changes_the_result(folder: Path) -> None:
    assert prior_of(folder).identity == prior_of(folder).identity
    assert prior_of(folder).identity != prior_of(folder, PriorKind.METRIC).identity
    metric, millimetres = (prior_of(folder, PriorKind.METRIC, unit) for unit in (None, 0.001))
    assert metric.identity != millimetres.identity
    assert str(folder) not in str(prior_of(folder).identity)


def test_a_coarse_map_is_kept_at_twice_its_own_resolution(
    folder: Path, view: View, scene: Scene
) -> None:
    """What is interpolated between its samples is the map, out to the photo's border."""
    width, height = 1003, 602
    K = np.array([[800.0, 0, width / 2], [0, 800, height / 2], [0, 0, 1.0]])
    view = replace(view, camera=PinholeCamera(K=K, width=width, height=height))
    x, y = (np.arange(100) + 0.5) / 100, (np.arange(60) + 0.5) / 60
    values = (3 + np.sin(9 * x) * np.cos(7 * y[:, None])).astype(np.float32)
    np.save(folder / "a.npy", values)
    prior = MapsPrior(folder, "affine").estimate(view, scene)
    assert prior.step == (5, 5)
    assert prior.values.shape == (121, 201)
    found = in_photo(prior, view.camera.shape).values
    assert np.isfinite(found).all()
    at = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1)
    direct = sample_map(values, at * [100 / width, 60 / height])
    assert np.abs(found - direct).max() < 0.01
