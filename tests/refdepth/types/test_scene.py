"""A scene for processes that look at photos alone."""

from __future__ import annotations

import pickle
from dataclasses import fields

import numpy as np

from refdepth.synthetic import make_scene


def test_without_points_views_keep_all_but_what_they_observe(tmp_path) -> None:
    scene = make_scene("room", 0, 4, 48, 36).to_scene(tmp_path)
    alone = pickle.loads(pickle.dumps(scene.without_points))
    assert alone.names == scene.names
    assert len(scene.points) > 0
    assert len(alone.points) == 0
    for view, other in zip(alone.views, scene.views, strict=True):
        assert len(other.point_index) > 0
        assert view.point_index.shape == (0,)
        assert view.point_xy.shape == (0, 2)
        for name in {field.name for field in fields(view)} - {"point_index", "point_xy", "camera"}:
            np.testing.assert_array_equal(getattr(view, name), getattr(other, name))
        assert (view.camera.width, view.camera.height) == (48, 36)
        np.testing.assert_array_equal(view.camera.K, other.camera.K)
        assert len(alone.sparse_depth(view)) == 0
