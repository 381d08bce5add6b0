"""LAS files, read by laspy and checked against the format's fixed header."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from refdepth.errors import UnavailableError
from refdepth.io.las import write_las
from refdepth.types.cloud import PointCloud


@pytest.fixture
def cloud() -> PointCloud:
    rng = np.random.default_rng(0)
    return PointCloud(
        points=(rng.normal(size=(500, 3)) * [1, 10, 0.1] + [100, -5, 0]).astype(np.float32),
        normals=np.zeros((500, 3), np.float32),
        colors=rng.integers(0, 256, (500, 3)).astype(np.uint8),
        confidence=rng.random(500, dtype=np.float32),
    )


@pytest.mark.parametrize("suffix", [".las", ".laz"])
def test_points_colours_and_confidence_survive(
    cloud: PointCloud, tmp_path: Path, suffix: str
) -> None:
    laspy = pytest.importorskip("laspy")
    pytest.importorskip("lazrs")
    path = tmp_path / f"cloud{suffix}"
    parts = np.split(np.arange(500), [200, 200, 333])  # one of them empty
    assert write_las(path, lambda: (cloud.select(part) for part in parts)) == 500
    stored = laspy.read(path)
    assert_allclose(np.stack([stored.x, stored.y, stored.z], 1), cloud.points, atol=1e-6)
    colors = np.stack([stored.red, stored.green, stored.blue], 1)
    assert_array_equal(colors // 257, cloud.colors)
    assert_array_equal(stored.confidence, cloud.confidence)


def test_the_header_is_that_of_las_1_4(cloud: PointCloud, tmp_path: Path) -> None:
    pytest.importorskip("laspy")
    path = tmp_path / "cloud.las"
    write_las(path, lambda: [cloud])
    raw = path.read_bytes()
    # ASPRS LAS 1.4 R15, table 3: signature, version, point format and count at fixed places.
    assert raw[:4] == b"LASF"
    assert (raw[24], raw[25], raw[104]) == (1, 4, 7)
    assert struct.unpack_from("<Q", raw, 247)[0] == 500


def test_without_laspy_it_says_what_to_install(
    cloud: PointCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "laspy", None)
    with pytest.raises(UnavailableError, match=r"refdepth\[las\]"):
        write_las(tmp_path / "cloud.las", lambda: [cloud])


def test_a_cloud_without_points_is_a_file_without_points(tmp_path: Path) -> None:
    laspy = pytest.importorskip("laspy")
    assert write_las(tmp_path / "cloud.las", lambda: [PointCloud.empty()]) == 0
    assert len(laspy.read(tmp_path / "cloud.las")) == 0
