"""Meshes without stray fragments."""

from __future__ import annotations

import numpy as np
import trimesh

from refdepth.fusion.tsdf import without_fragments
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


def test_stray_fragments_go_and_large_pieces_stay() -> None:
    large = trimesh.creation.icosphere(subdivisions=4)
    second = trimesh.creation.icosphere(subdivisions=3)
    second.apply_translation([5, 0, 0])
    crumb = trimesh.Trimesh([[9, 9, 9], [9, 9, 8], [9, 8, 9]], [[0, 1, 2]])
    cleaned = without_fragments(make_mesh(crumb, large, second))
    assert len(cleaned.triangles) == len(large.faces) + len(second.faces)
    assert len(cleaned.vertices) == len(large.vertices) + len(second.vertices)
    assert cleaned.vertices.max() < 9
    whole = trimesh.Trimesh(cleaned.vertices, cleaned.triangles, process=False)
    assert whole.is_watertight


def test_the_largest_piece_stays_however_small() -> None:
    crumb = trimesh.Trimesh([[9, 9, 9], [9, 9, 8], [9, 8, 9]], [[0, 1, 2]])
    assert len(without_fragments(make_mesh(crumb), min_share=2.0).triangles) == 1
