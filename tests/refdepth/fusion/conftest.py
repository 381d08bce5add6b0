"""What the fusion tests share."""

import numpy as np
import pytest
from wall_scene import wall_scene

import refdepth.matching.neighbours
from refdepth.types.scene import Scene, View


@pytest.fixture
def wall(tmp_path, monkeypatch):
    def all_others(scene: Scene, view: View, count: int) -> tuple[str, ...]:
        gaps = {v.name: np.linalg.norm(v.center - view.center) for v in scene.views}
        order = sorted(gaps, key=lambda name: (gaps[name], name))
        return tuple(name for name in order if name != view.name)[:count]

    monkeypatch.setattr(refdepth.matching.neighbours, "select_sources", all_others)
    return wall_scene(tmp_path)
