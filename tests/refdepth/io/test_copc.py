"""COPC, read by laspy level by level."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial import cKDTree

import refdepth.io.copc
from refdepth.errors import InputError, UnavailableError
from refdepth.io.copc import write_copc
from refdepth.types.cloud import PointCloud

POINTS, PER_NODE = 6_000, 300


@pytest.fixture(scope="module")
def cloud() -> PointCloud:
    """A sphere far from the origin, a stray point, and four hundred points in one place."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(POINTS, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    points[0] = [9, 0, 0]
    points[-400:] = points[-400]
    return PointCloud(
        points=points + np.array([1000.0, -50, 3]),
        normals=np.zeros((POINTS, 3), np.float32),
        colors=rng.integers(0, 256, (POINTS, 3)).astype(np.uint8),
        confidence=rng.random(POINTS, dtype=np.float32),
    )


def pieces(cloud: PointCloud, rows: int = 1000) -> Iterator[PointCloud]:
    return (
        cloud.select(np.arange(at, min(at + rows, len(cloud)))) for at in range(0, len(cloud), rows)
    )


def written(cloud: PointCloud, path: Path) -> Path:
    pytest.importorskip("copclib")
    assert write_copc(path, pieces(cloud), node_points=PER_NODE) == POINTS
    assert list(path.parent.iterdir()) == [path]
    return path


def test_all_levels_together_are_the_cloud(cloud: PointCloud, tmp_path: Path) -> None:
    laspy = pytest.importorskip("laspy")
    with laspy.CopcReader.open(str(written(cloud, tmp_path / "c.copc.laz"))) as reader:
        stored = reader.query()
        assert reader.header.point_count == len(stored) == POINTS
        assert_allclose(reader.header.mins, cloud.points.min(axis=0), atol=1e-6)
        assert_allclose(reader.header.maxs, cloud.points.max(axis=0), atol=1e-6)
    xyz = np.stack([stored.x, stored.y, stored.z], axis=1)
    colors = np.stack([stored.red, stored.green, stored.blue], axis=1) // 257
    assert_array_equal(np.sort(colors, axis=0), np.sort(cloud.colors, axis=0))
    distance, row = cKDTree(xyz).query(cloud.points[:-400])
    assert distance.max() < 1e-6
    assert_array_equal(colors[row], cloud.colors[:-400])
    confidence = np.asarray(stored.intensity)[row] / 65535
    assert_allclose(confidence, cloud.confidence[:-400], atol=1e-5)


def test_each_level_is_finer_and_spread_over_all(cloud: PointCloud, tmp_path: Path) -> None:
    laspy = pytest.importorskip("laspy")
    counts = []
    with laspy.CopcReader.open(str(written(cloud, tmp_path / "c.copc.laz"))) as reader:
        for level in range(30):
            counts.append(len(reader.query(level=level)))
            if sum(counts) == POINTS:
                break
        coarse = reader.query(level=range(4))
    assert sum(counts) == POINTS
    assert counts[0] < counts[1] < counts[2]
    xyz = np.stack([coarse.x, coarse.y, coarse.z], axis=1)
    distance, _ = cKDTree(xyz).query(cloud.points)
    assert np.quantile(distance, 0.99) < 0.2


def test_files_give_what_memory_gives(
    cloud: PointCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "files"):
        (tmp_path / name).mkdir()
    here = written(cloud, tmp_path / "here" / "c.copc.laz").read_bytes()
    monkeypatch.setattr(refdepth.io.copc, "_IN_MEMORY", 100)
    monkeypatch.setattr(refdepth.io.copc, "_ROWS_AT_A_TIME", 777)
    assert written(cloud, tmp_path / "files" / "c.copc.laz").read_bytes() == here


def test_a_few_points_are_one_node(cloud: PointCloud, tmp_path: Path) -> None:
    pytest.importorskip("copclib")
    laspy = pytest.importorskip("laspy")
    path = tmp_path / "c.copc.laz"
    write_copc(path, [PointCloud.empty(), cloud.select(np.arange(3))])
    with laspy.CopcReader.open(str(path)) as reader:
        assert len(reader.query(level=0)) == 3


def test_no_points_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("copclib")
    with pytest.raises(InputError, match="no points"):
        write_copc(tmp_path / "c.copc.laz", [PointCloud.empty()])
    assert list(tmp_path.iterdir()) == []


def test_without_copclib_it_says_what_to_install(
    cloud: PointCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "copclib", None)
    with pytest.raises(UnavailableError, match=r"refdepth\[copc\]"):
        write_copc(tmp_path / "c.copc.laz", [cloud])


def test_a_reference_system_stands_before_the_points_and_all_points_stay(tmp_path: Path) -> None:
    laspy = pytest.importorskip("laspy")
    rng = np.random.default_rng(0)
    points = rng.random((30_000, 3)) * [100, 80, 5] + [465_000, 5_247_000, 400]
    cloud = PointCloud(
        points=points,
        normals=np.zeros((len(points), 3), np.float32),
        colors=rng.integers(0, 256, (len(points), 3)).astype(np.uint8),
        confidence=rng.random(len(points)).astype(np.float32),
    )
    wkt = 'LOCAL_CS["somewhere"]'
    plain, placed = tmp_path / "plain.copc.laz", tmp_path / "placed.copc.laz"
    for path, system in ((plain, None), (placed, wkt)):
        write_copc(path, [cloud], wkt=system, node_points=500)
        with laspy.open(str(path)) as reader:
            found = [vlr.string for vlr in reader.header.vlrs.get("WktCoordinateSystemVlr")]
            assert found == ([] if system is None else [wkt])
            assert reader.header.global_encoding.wkt
    by_chunks = [laspy.read(str(path)).points for path in (plain, placed)]
    by_nodes = []
    for path in (plain, placed):
        with laspy.CopcReader.open(str(path)) as reader:
            by_nodes.append(reader.query())
            by_nodes.append(reader.query(level=1))
    for a, b in (by_chunks, by_nodes[::2], by_nodes[1::2]):
        assert_array_equal(a.array, b.array)
    assert len(by_nodes[0]) == len(cloud)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [placed.name, plain.name]
