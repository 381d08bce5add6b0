"""The network that adds detail, in a run: which one it is, and that a wrong one ends it at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_checkpoints import save_depth_anything, save_prompt_depth_anything

from refdepth.errors import ConfigurationError
from refdepth.pipeline.api import build_request
from refdepth.pipeline.config import RunRequest, build_config
from refdepth.pipeline.engine import Engine
from refdepth.pipeline.results import Results
from refdepth.pipeline.stage_status import StageState, StageStatus
from refdepth.pipeline.upsampling import with_upsampler
from refdepth.pipeline.views import load_scene
from refdepth.pipeline.work import Cost
from refdepth.pipeline.workspace import Workspace
from refdepth.synthetic import SyntheticScene, make_scene


@pytest.fixture(scope="module")
def room() -> SyntheticScene:
    return make_scene(views=4, width=160, height=120)


@pytest.fixture(scope="module")
def given(room: SyntheticScene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos with cameras and exact depth maps, and networks."""
    folder = tmp_path_factory.mktemp("given")
    room.to_scene(folder / "photos", points_per_view=80)
    (folder / "depth").mkdir()
    for view in room.views:
        np.save(folder / "depth" / f"{Path(view.name).stem}.npy", view.depth)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_prompt_depth_anything(folder / "prompted")
        save_prompt_depth_anything(folder / "other")
        save_depth_anything(folder / "plain")
    return folder
