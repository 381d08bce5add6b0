"""Weights, masks and normals as 8-bit pictures, worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from exact_room import ExactRoom
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from refdepth.io.weights import normal_levels, write_weights
from refdepth.types.camera import PinholeCamera
from refdepth.types.depth_map import DepthMap


def test_known_depth_never_has_weight_zero(room: ExactRoom, tmp_path: Path) -> None:
    camera = PinholeCamera(K=np.eye(3), width=4, height=1)
    view = replace(room.scene.views[0], name="a/b.jpg", camera=camera)
    depth = np.array([[0, 2, 2, 2]], np.float32)
    confidence = np.array([[0, 0, 0.4, 1]], np.float32)
    write_weights(tmp_path, view, DepthMap(depth=depth, confidence=confidence))
    with Image.open(tmp_path / "confidence" / "a" / "b.jpg.png") as picture:
        assert_array_equal(np.asarray(picture), [[0, 1, 102, 255]])
    with Image.open(tmp_path / "depth_masks" / "a" / "b.jpg.png") as picture:
        assert_array_equal(np.asarray(picture), [[0, 255, 255, 255]])


def test_normals_come_back_within_half_a_level_and_unknown_is_black() -> None:
    normals = np.random.default_rng(0).normal(size=(20, 30, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    normals[0] = 0
    levels = normal_levels(normals)
    assert not levels[0].any()
    assert levels[1:].any(axis=-1).all()
    assert_allclose(levels[1:] / 127.5 - 1, normals[1:], atol=0.5 / 127.5 + 1e-6)
