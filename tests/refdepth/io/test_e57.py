"""E57, read by pye57."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from refdepth.errors import InputError, UnavailableError
from refdepth.io.e57 import write_e57
from refdepth.types.cloud import PointCloud


@pytest.fixture
def cloud() -> PointCloud:
    """Map coordinates: float32 is too coarse for them."""
    rng = np.random.default_rng(0)
    return PointCloud(
        points=rng.normal((500_000, 5_400_000, 100), size=(500, 3)),
        normals=np.zeros((500, 3), np.float32),
        colors=rng.integers(0, 256, (500, 3)).astype(np.uint8),
        confidence=rng.random(500, dtype=np.float32),
    )


def test_metres_colours_and_confidence_survive(cloud: PointCloud, tmp_path: Path) -> None:
    pye57 = pytest.importorskip("pye57")
    path = tmp_path / "cloud.e57"
    write_e57(path, cloud, metres_per_unit=0.25)
    with pye57.E57(str(path)) as file:
        assert file.scan_count == 1
        stored = file.read_scan(0, intensity=True, colors=True, ignore_missing_fields=True)
    xyz = np.stack([stored[f"cartesian{axis}"] for axis in "XYZ"], axis=1)
    assert_allclose(xyz, cloud.points * 0.25, rtol=0, atol=1e-6)
    colors = np.stack([stored[f"color{name}"] for name in ("Red", "Green", "Blue")], axis=1)
    assert_array_equal(colors, cloud.colors)
    assert_allclose(stored["intensity"], cloud.confidence, atol=1e-6)


def test_equal_confidence_and_one_point_survive(cloud: PointCloud, tmp_path: Path) -> None:
    pye57 = pytest.importorskip("pye57")
    path = tmp_path / "cloud.e57"
    write_e57(path, cloud.select(np.arange(1)), metres_per_unit=1)
    with pye57.E57(str(path)) as file:
        stored = file.read_scan(0, intensity=True, ignore_missing_fields=True)
    xyz = [stored[f"cartesian{axis}"][0] for axis in "XYZ"]
    assert_allclose(xyz, cloud.points[0], rtol=0, atol=1e-6)


def test_a_scene_without_metres_is_refused(cloud: PointCloud, tmp_path: Path) -> None:
    pytest.importorskip("pye57")
    with pytest.raises(InputError, match=r"cloud\.e57: .*metres.*--depth-unit"):
        write_e57(tmp_path / "cloud.e57", cloud, metres_per_unit=None)
    with pytest.raises(InputError, match="no points"):
        write_e57(tmp_path / "cloud.e57", PointCloud.empty(), metres_per_unit=1)


def test_without_pye57_it_says_what_to_install(
    cloud: PointCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pye57", None)
    with pytest.raises(UnavailableError, match=r"refdepth\[e57\]"):
        write_e57(tmp_path / "cloud.e57", cloud, metres_per_unit=1)
