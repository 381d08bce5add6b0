"""A second opinion on visibility: Open3D's ray casting (Embree)."""

import numpy as np
import pytest
import torch

from refdepth.geometry.mesh import grid_mesh

open3d = pytest.importorskip("open3d")


@pytest.mark.parametrize("turn", [-0.2, 0.1, 0.3])
def test_agrees_with_embree(renderer, turn):
    height, width = 120, 160
    y, x = np.mgrid[:height, :width]
    depth = 3 + 0.3 * np.sin(x / 15) + 0.2 * np.cos(y / 11)
    depth[30:80, 50:100] -= 1.2
    mesh = grid_mesh(depth, stride=3, cut_ratio=1.08)
    K = np.array([[150.0, 0, 80], [0, 150, 60], [0, 0, 1]])
    rays = np.c_[mesh.vertices_px, np.ones(len(mesh.depth))] @ np.linalg.inv(K).T
    points = rays * mesh.depth[:, None]
    c, s = np.cos(turn), np.sin(turn)
    R, t = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]), np.array([-3 * s, 0.1, 0.2])

    q = (points @ R.T + t) @ K.T
    seen = renderer.visibility(
        torch.tensor(q[None]), torch.from_numpy(mesh.triangles), height, width
    )

    scene = open3d.t.geometry.RaycastingScene()
    scene.add_triangles(
        open3d.core.Tensor(points.astype(np.float32)),
        open3d.core.Tensor(mesh.triangles.astype(np.uint32)),
    )
    pixels = np.stack([x + 0.5, y + 0.5, np.ones_like(depth)], axis=-1)
    directions = pixels @ np.linalg.inv(K).T @ R
    origin = np.broadcast_to(-R.T @ t, directions.shape)
    hits = scene.cast_rays(
        open3d.core.Tensor(np.concatenate([origin, directions], -1).astype(np.float32))
    )
    ids = hits["primitive_ids"].numpy().astype(np.int64) + 1
    ids[~np.isfinite(hits["t_hit"].numpy())] = 0

    ours = seen.triangle_id[0].numpy()
    assert 0.3 < (ours > 0).mean() < 1
    assert (ours == ids).mean() >= 0.995
    # The rays have z = 1 in camera space, so that the hit distance is the depth.
    both = (ours > 0) & (ours == ids)
    np.testing.assert_allclose(seen.depth[0].numpy()[both], hits["t_hit"].numpy()[both], rtol=1e-4)
