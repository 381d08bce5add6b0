"""All stages, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from refdepth.pipeline.stages.depth import DepthStage
from refdepth.pipeline.stages.fuse import FuseStage
from refdepth.pipeline.stages.prepare import PrepareStage
from refdepth.pipeline.stages.refine import RefineStage
from refdepth.pipeline.stages.scale import ScaleStage
from refdepth.pipeline.stages.sfm import SfmStage

if TYPE_CHECKING:
    from refdepth.pipeline.stage import Stage

STAGES: tuple[Stage, ...] = (
    PrepareStage(),
    SfmStage(),
    DepthStage(),
    ScaleStage(),
    RefineStage(),
    FuseStage(),
)
