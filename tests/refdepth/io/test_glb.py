"""Meshes, read by trimesh and Open3D."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import open3d as o3d
import pytest
import trimesh
from numpy.testing import assert_allclose, assert_array_equal

from refdepth.io.glb import write_glb
from refdepth.io.ply import write_mesh_ply
from refdepth.types.mesh import TriangleMesh


def make_mesh(*parts: trimesh.Trimesh) -> TriangleMesh:
    whole = trimesh.util.concatenate(parts)
    rng = np.random.default_rng(0)
    return TriangleMesh(
        vertices=whole.vertices.astype(np.float32),
        normals=whole.vertex_normals.astype(np.float32),
        colors=rng.integers(0, 256, whole.vertices.shape).astype(np.uint8),
        triangles=whole.faces.astype(np.int32),
    )


@pytest.fixture
def ball() -> TriangleMesh:
    sphere = trimesh.creation.icosphere(subdivisions=3)
    sphere.apply_translation([1, 2, 3])
    return make_mesh(sphere)


def test_trimesh_reads_the_glb_with_y_up(ball: TriangleMesh, tmp_path: Path) -> None:
    write_glb(tmp_path / "mesh.glb", ball)
    scene = trimesh.load_scene(tmp_path / "mesh.glb")
    stored = next(iter(scene.geometry.values()))
    assert_allclose(stored.vertices, ball.vertices)
    assert_array_equal(stored.faces, ball.triangles)
    placed = scene.to_geometry()
    assert_allclose(placed.vertices, ball.vertices * [1, -1, -1], atol=1e-6)
    assert placed.volume == pytest.approx(4 / 3 * np.pi, rel=0.02)


def test_open3d_reads_the_glb(ball: TriangleMesh, tmp_path: Path) -> None:
    write_glb(tmp_path / "mesh.glb", ball)
    stored = o3d.io.read_triangle_mesh(str(tmp_path / "mesh.glb"))
    assert len(stored.vertices) == len(ball.vertices)
    assert len(stored.triangles) == len(ball.triangles)
    assert stored.has_vertex_colors()


def test_glb_colours_are_linear_light(ball: TriangleMesh, tmp_path: Path) -> None:
    write_glb(tmp_path / "mesh.glb", ball)
    raw = (tmp_path / "mesh.glb").read_bytes()
    magic, version, length = struct.unpack_from("<4sII", raw)
    assert (magic, version, length) == (b"glTF", 2, len(raw))
    (size,) = struct.unpack_from("<I", raw, 12)
    document = json.loads(raw[20 : 20 + size])
    accessor = document["accessors"][
        document["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"]
    ]
    view = document["bufferViews"][accessor["bufferView"]]
    start = 20 + size + 8 + view["byteOffset"]
    stored = np.frombuffer(raw[start : start + view["byteLength"]], "<u2").reshape(-1, 4)
    # IEC 61966-2-1, worked out: sRGB 128 is 0.2159 of full light; 10 lies on the straight part.
    assert_allclose(_linear(stored, ball, 128), 0.2159, atol=1e-4)
    assert_allclose(_linear(stored, ball, 10), 10 / 255 / 12.92, atol=1e-4)


def _linear(stored: np.ndarray, mesh: TriangleMesh, srgb: int) -> np.ndarray:
    return stored[:, :3][mesh.colors == srgb] / 65535


def test_open3d_reads_the_ply(ball: TriangleMesh, tmp_path: Path) -> None:
    write_mesh_ply(tmp_path / "mesh.ply", ball)
    stored = o3d.io.read_triangle_mesh(str(tmp_path / "mesh.ply"))
    assert_allclose(np.asarray(stored.vertices), ball.vertices)
    assert_array_equal(np.asarray(stored.triangles), ball.triangles)
