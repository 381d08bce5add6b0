"""Accurate dense depth from photos: monocular priors fitted to structure from motion and refined
against the neighbouring views.

What is named here is the public interface. Parts are imported when they are first used, so that the
command line answers before NumPy is loaded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from refdepth.errors import RefdepthError

if TYPE_CHECKING:
    from refdepth.api import refine_scene, scale_scene
    from refdepth.fusion import FusionSettings, MeshSettings, fuse, fuse_mesh
    from refdepth.geometry.working_view import WorkingView
    from refdepth.io.colmap_model import read_scene
    from refdepth.io.unproject import unproject
    from refdepth.matching.neighbours import select_sources
    from refdepth.pipeline.api import reconstruct
    from refdepth.pipeline.results import Results
    from refdepth.priors.fit import ScaleSettings, apply_fit, fit_scale
    from refdepth.priors.maps import MapsPrior
    from refdepth.priors.network import NetworkPrior
    from refdepth.priors.scale_fit import ScaleFit
    from refdepth.priors.sweep import SweepPrior
    from refdepth.refine.refined_view import RefinedView
    from refdepth.refine.rounds import first_round, second_round
    from refdepth.refine.settings import RefineSettings
    from refdepth.render import select_renderer
    from refdepth.settings import Quality
    from refdepth.types.camera import PinholeCamera
    from refdepth.types.cloud import PointCloud
    from refdepth.types.depth_map import DepthMap
    from refdepth.types.mesh import TriangleMesh
    from refdepth.types.prior import DepthPrior, Prior, PriorKind
    from refdepth.types.scene import PosedImage, Scene, SparseDepth, SparsePoints, View

_LATER = {
    "Quality": "refdepth.settings",
    "reconstruct": "refdepth.pipeline.api",
    "Results": "refdepth.pipeline.results",
    "ScaleFit": "refdepth.priors.scale_fit",
    "WorkingView": "refdepth.geometry.working_view",
    "refine_scene": "refdepth.api",
    "scale_scene": "refdepth.api",
    "read_scene": "refdepth.io.colmap_model",
    "unproject": "refdepth.io.unproject",
    "FusionSettings": "refdepth.fusion",
    "MeshSettings": "refdepth.fusion",
    "fuse": "refdepth.fusion",
    "fuse_mesh": "refdepth.fusion",
    "MapsPrior": "refdepth.priors.maps",
    "NetworkPrior": "refdepth.priors.network",
    "SweepPrior": "refdepth.priors.sweep",
    "RefinedView": "refdepth.refine.rounds",
    "first_round": "refdepth.refine.rounds",
    "second_round": "refdepth.refine.rounds",
    "RefineSettings": "refdepth.refine.settings",
    "select_renderer": "refdepth.render",
    "ScaleSettings": "refdepth.priors.fit",
    "apply_fit": "refdepth.priors.fit",
    "fit_scale": "refdepth.priors.fit",
    "select_sources": "refdepth.matching.neighbours",
    "PinholeCamera": "refdepth.types.camera",
    "PointCloud": "refdepth.types.cloud",
    "DepthMap": "refdepth.types.depth_map",
    "TriangleMesh": "refdepth.types.mesh",
    "DepthPrior": "refdepth.types.prior",
    "Prior": "refdepth.types.prior",
    "PriorKind": "refdepth.types.prior",
    "PosedImage": "refdepth.types.scene",
    "Scene": "refdepth.types.scene",
    "SparseDepth": "refdepth.types.scene",
    "SparsePoints": "refdepth.types.scene",
    "View": "refdepth.types.scene",
}

__all__ = [
    "DepthMap",
    "DepthPrior",
    "FusionSettings",
    "MapsPrior",
    "MeshSettings",
    "NetworkPrior",
    "PinholeCamera",
    "PointCloud",
    "PosedImage",
    "Prior",
    "PriorKind",
    "Quality",
    "RefdepthError",
    "RefineSettings",
    "RefinedView",
    "Results",
    "ScaleFit",
    "ScaleSettings",
    "Scene",
    "SparseDepth",
    "SparsePoints",
    "SweepPrior",
    "TriangleMesh",
    "View",
    "WorkingView",
    "apply_fit",
    "first_round",
    "fit_scale",
    "fuse",
    "fuse_mesh",
    "read_scene",
    "reconstruct",
    "refine_scene",
    "scale_scene",
    "second_round",
    "select_renderer",
    "select_sources",
    "unproject",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)
