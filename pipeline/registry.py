"""All stages, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.stages.depth import DepthStage
from pipeline.stages.fuse import FuseStage
from pipeline.stages.prepare import PrepareStage
from pipeline.stages.refine import RefineStage
from pipeline.stages.scale import ScaleStage
from pipeline.stages.sfm import SfmStage

if TYPE_CHECKING:
    from pipeline.stage import Stage

STAGES: tuple[Stage, ...] = (
    PrepareStage(),
    SfmStage(),
    DepthStage(),
    ScaleStage(),
    RefineStage(),
    FuseStage(),
)
