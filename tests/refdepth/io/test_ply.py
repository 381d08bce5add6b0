"""PLY files, read back with a second library."""

from dataclasses import replace

import numpy as np
import pytest

from refdepth.errors import InputError
from refdepth.io.ply import (
    read_ply,
    read_ply_pieces,
    read_ply_points,
    read_ply_vertices,
    sample_ply,
    write_mesh_ply,
    write_ply,
)
from refdepth.types.cloud import PointCloud
from refdepth.types.mesh import TriangleMesh


def cloud(count: int = 7) -> PointCloud:
    rng = np.random.default_rng(count)
    normals = rng.normal(size=(count, 3))
    return PointCloud(
        points=rng.normal(size=(count, 3)).astype(np.float32),
        normals=(normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float32),
        colors=rng.integers(0, 256, (count, 3)).astype(np.uint8),
        confidence=rng.uniform(size=count).astype(np.float32),
    )


def test_open3d_reads_the_cloud(tmp_path):
    import open3d

    path, made = tmp_path / "cloud.ply", cloud()
    assert write_ply(path, made) == 7
    found = open3d.io.read_point_cloud(str(path))
    np.testing.assert_array_equal(np.asarray(found.points, np.float32), made.points)
    np.testing.assert_array_equal(np.asarray(found.normals, np.float32), made.normals)
    np.testing.assert_array_equal(np.rint(np.asarray(found.colors) * 255), made.colors)
    np.testing.assert_array_equal(read_ply_vertices(path)["confidence"], made.confidence)


@pytest.mark.parametrize("positions", [np.float32, np.float64])
def test_a_cloud_comes_back_as_it_was_written(tmp_path, positions):
    made = replace(cloud(), points=cloud().points.astype(positions) + positions(1e-9))
    write_ply(tmp_path / "cloud.ply", made)
    found = read_ply(tmp_path / "cloud.ply")
    for name in ("points", "normals", "colors", "confidence"):
        array = getattr(found, name)
        assert array.dtype == getattr(made, name).dtype
        np.testing.assert_array_equal(array, getattr(made, name))


def test_a_cloud_without_confidence_is_refused_with_what_it_lacks(tmp_path):
    (tmp_path / "a.ply").write_text(
        "ply\nformat ascii 1.0\nelement vertex 1\n"
        + "".join(f"property float {n}\n" for n in ("x", "y", "z", "nx", "ny", "nz"))
        + "".join(f"property uchar {n}\n" for n in ("red", "green", "blue"))
        + "end_header\n0 0 1 0 0 1 9 9 9\n"
    )
    with pytest.raises(InputError, match=r"a\.ply.* confidence"):
        read_ply(tmp_path / "a.ply")


def test_pieces_make_the_same_bytes_as_the_whole(tmp_path):
    parts = [cloud(3), cloud(4), cloud(0)]
    write_ply(tmp_path / "whole.ply", PointCloud.concatenate(parts))
    assert write_ply(tmp_path / "pieces.ply", iter(parts)) == 7
    assert (tmp_path / "whole.ply").read_bytes() == (tmp_path / "pieces.ply").read_bytes()


FIELDS = ("points", "normals", "colors", "confidence")


def same(a: PointCloud, b: PointCloud) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in FIELDS)


@pytest.mark.parametrize(("count", "sizes"), [(7, [3, 3, 1]), (6, [3, 3]), (0, [0])])
def test_a_cloud_is_read_in_pieces(tmp_path, count, sizes):
    write_ply(tmp_path / "cloud.ply", cloud(count))
    pieces = list(read_ply_pieces(tmp_path / "cloud.ply", rows=3))
    assert [len(piece) for piece in pieces] == sizes
    assert same(PointCloud.concatenate(pieces), cloud(count))


def test_text_is_read_in_pieces_too(tmp_path):
    names = ("x", "y", "z", "nx", "ny", "nz", "confidence", "red", "green", "blue")
    rows = [[row + 0.5] * 7 + [row] * 3 for row in range(5)]
    (tmp_path / "a.ply").write_text(
        "ply\nformat ascii 1.0\nelement vertex 5\n"
        + "".join(f"property float {name}\n" for name in names)
        + "element face 0\nproperty list uchar int vertex_indices\nend_header\n"
        + "".join(" ".join(map(str, row)) + "\n" for row in rows)
    )
    pieces = list(read_ply_pieces(tmp_path / "a.ply", rows=2))
    assert [len(piece) for piece in pieces] == [2, 2, 1]
    assert [x for piece in pieces for x in piece.points[:, 0]] == [row[0] for row in rows]


def test_a_sample_has_each_point_with_equal_chance_and_in_order(tmp_path):
    made = replace(cloud(40), confidence=np.arange(40, dtype=np.float32))
    write_ply(tmp_path / "cloud.ply", made)
    counted = np.zeros(40)
    for seed in range(400):
        found = sample_ply(tmp_path / "cloud.ply", 10, seed=seed)
        rows = found.confidence.astype(int)
        assert (np.diff(rows) > 0).all()
        assert same(found, made.select(rows))
        counted[rows] += 1
    assert len(counted[counted > 0]) == 40
    assert abs(counted - 100).max() < 45  # five standard deviations
    assert same(sample_ply(tmp_path / "cloud.ply", 40), made)
    assert same(sample_ply(tmp_path / "cloud.ply", 99), made)


def test_a_sample_does_not_depend_on_how_the_file_is_read(tmp_path, monkeypatch):
    write_ply(tmp_path / "cloud.ply", cloud(500))
    whole = sample_ply(tmp_path / "cloud.ply", 30)
    assert len(whole) == 30
    monkeypatch.setattr("refdepth.io.ply._PIECE", 7)
    assert same(sample_ply(tmp_path / "cloud.ply", 30), whole)
    assert not same(sample_ply(tmp_path / "cloud.ply", 30, seed=1), whole)


def test_a_file_that_ends_early_is_refused_at_the_piece_that_lacks(tmp_path):
    write_ply(tmp_path / "cloud.ply", cloud(7))
    content = (tmp_path / "cloud.ply").read_bytes()
    (tmp_path / "cloud.ply").write_bytes(content[:-1])
    pieces = read_ply_pieces(tmp_path / "cloud.ply", rows=3)
    assert len(next(pieces)) == 3
    with pytest.raises(InputError, match=r"cloud\.ply.*ends early"):
        list(pieces)


def test_comments_stand_in_the_header(tmp_path):
    write_ply(tmp_path / "cloud.ply", cloud(7), ["unit: SfM units"])
    assert b"\ncomment unit: SfM units\n" in (tmp_path / "cloud.ply").read_bytes()
    assert same(read_ply(tmp_path / "cloud.ply"), cloud(7))


def test_trimesh_reads_the_mesh(tmp_path):
    import trimesh

    made = TriangleMesh(
        vertices=np.eye(3, dtype=np.float32),
        normals=np.full((3, 3), 0.577, np.float32),
        colors=np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8),
        triangles=np.array([[0, 1, 2]], np.int32),
    )
    write_mesh_ply(tmp_path / "mesh.ply", made)
    found = trimesh.load(tmp_path / "mesh.ply", process=False)
    np.testing.assert_array_equal(found.vertices, made.vertices)
    np.testing.assert_array_equal(found.faces, made.triangles)
    np.testing.assert_array_equal(found.visual.vertex_colors[:, :3], made.colors)


@pytest.mark.parametrize("ascii_", [True, False])
def test_files_of_others_are_read(tmp_path, ascii_):
    import open3d

    points = np.random.default_rng(0).normal(size=(5, 3))
    other = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points))
    open3d.io.write_point_cloud(str(tmp_path / "a.ply"), other, write_ascii=ascii_)
    np.testing.assert_allclose(
        read_ply_points(tmp_path / "a.ply"), points, atol=1e-5
    )  # six digits in ASCII


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no ply at all",
        b"ply\nformat ascii 1.0\nelement vertex 1\n",
        b"ply\nformat binary_little_endian 1.0\nelement vertex 9\nproperty float x\n"
        b"property float y\nproperty float z\nend_header\n\0\0",
        b"ply\nformat ascii 1.0\nelement vertex 0\nproperty float x\nproperty float y\n"
        b"property float z\nend_header\n",
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n",
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\n"
        b"property float z\nend_header\n1 nan 2\n",
        b"ply\nformat\nelement vertex\nend_header\n",
    ],
)
def test_damaged_files_are_refused(tmp_path, content):
    (tmp_path / "bad.ply").write_bytes(content)
    with pytest.raises(InputError):
        read_ply_points(tmp_path / "bad.ply")
