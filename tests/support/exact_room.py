"""A small synthetic room with exact depth, and a workspace as a finished run would leave it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.synthetic import SyntheticScene, make_scene
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene

VIEWS, WIDTH, HEIGHT = 7, 160, 120


@dataclass(frozen=True, kw_only=True)
class ExactRoom:
    """A scene and the truth about its depth."""

    scene: Scene
    depth: dict[str, NDArray[np.float32]]
    """Exact depth by view name (height, width), metres."""
    priors: dict[str, NDArray[np.float32]]
    """Simulated inverse-affine priors by view name (height, width)."""

    def load(self, name: str) -> DepthMap:
        """Exact depth, more confident on the right."""
        depth = self.depth[name]
        confidence = np.linspace(0.5, 1, depth.shape[1], dtype=np.float32)
        return DepthMap(depth=depth, confidence=np.where(depth > 0, confidence, np.float32(0)))


def make_exact_room(folder: Path, synthetic: SyntheticScene | None = None) -> ExactRoom:
    """The room, photographed into `folder`."""
    synthetic = synthetic or make_scene(views=VIEWS, width=WIDTH, height=HEIGHT)
    scene = synthetic.to_scene(folder)
    by_stem = {Path(view.name).stem: number for number, view in enumerate(synthetic.views)}
    numbers = {name: by_stem[Path(name).stem] for name in scene.names}
    return ExactRoom(
        scene=scene,
        depth={name: synthetic.views[n].depth for name, n in numbers.items()},
        priors={name: synthetic.simulated_prior(n).values for name, n in numbers.items()},
    )


def make_workspace(root: Path, room: ExactRoom) -> Path:
    """A finished workspace around exact depth, written with the pipeline's own stores: all the
    artifacts that `pipeline.results.Results` reads. Returns `root`."""
    from refdepth.fusion import FusionSettings, fuse
    from refdepth.io.colmap import to_reconstruction
    from refdepth.io.ply import write_ply
    from refdepth.pipeline.config import RunInputs, RunRequest
    from refdepth.pipeline.items import ItemStore
    from refdepth.pipeline.workspace import Workspace
    from refdepth.priors.fit import ScaleSettings, fit_scale
    from refdepth.types.prior import Prior, PriorKind

    workspace, scene = Workspace(root), room.scene
    sparse, images = (
        root / "sfm" / "undistorted" / "sparse",
        root / "sfm" / "undistorted" / "images",
    )
    for stage in ("prepare", "sfm", "depth", "scale", "refine", "fuse"):
        (root / stage).mkdir(parents=True)
    sparse.mkdir(parents=True)
    images.mkdir()
    to_reconstruction(scene).write(str(sparse))
    for view in scene.views:
        shutil.copyfile(view.image_path, images / view.name)
    stores = {
        stage: ItemStore(root / stage, stage, bare=stage == "scale")
        for stage in ("depth", "scale", "refine/first", "refine", "fuse")
    }
    for name in scene.names:
        prior = Prior(values=room.priors[name], kind=PriorKind.INVERSE_AFFINE)
        fit = fit_scale(prior, scene.sparse_depth(scene[name]), ScaleSettings())
        final = room.load(name)
        found = {"depth": final.depth, "confidence": final.confidence}
        told = {"kind": "inverse_affine", "in_metres": False, "step": [1, 1]}
        stores["depth"].write(name, {"values": prior.values}, told)
        stores["scale"].write(name, {}, fit.to_dict())
        stores["refine/first"].write(name, found, _record())
        stores["refine"].write(name, found, _record())
    cloud = fuse(scene, room.load, FusionSettings())
    write_ply(root / "fuse" / "cloud.ply", cloud)
    for number, name in enumerate(scene.names):
        agreed = room.load(name)
        if number == 0:  # confirmed everywhere but in the top quarter
            height = len(agreed.depth)
            below = np.arange(height)[:, None] >= height // 4
            agreed = agreed.within(np.broadcast_to(below, agreed.depth.shape))
        stores["fuse"].write_arrays(name, {"depth": agreed.depth, "confidence": agreed.confidence})
    for stage, summary in _summaries(scene, len(cloud)).items():
        _manifest(root / stage, summary).write(root / stage)
    workspace.write_request(RunRequest(inputs=RunInputs(images=str(images))))
    return root


def _record() -> dict[str, Any]:
    losses = [1 / (2 + step) for step in range(14)]
    level = {"scale": 2, "steps": 14, "loss_first": 0.5, "loss_last": 1 / 15, "losses": losses}
    return {
        "sources": 4,
        "flags": [],
        "accepted_share": 0.9,
        "held_out": 2,
        "held_out_before": 0.71,
        "held_out_after": 0.84,
        "kept_prior": False,
        "device": "cpu",
        "renderer": "cpu",
        "fine": {"flags": [], "iterations": 14, "levels": [level], "triangles": 4321},
        "seconds": {"agreement": 0.4, "fine": 1.2},
    }


def _summaries(scene: Scene, points: int) -> dict[str, dict[str, Any]]:
    names = list(scene.names)
    return {
        "prepare": {"photos": len(names) + 1, "skipped": [], "masks": 0, "headline": "8 photos"},
        "sfm": {
            "registered": names,
            "failed": [],
            "points": len(scene.points),
            "mean_reprojection_error_px": 0.5,
            "mean_track_length": 4.0,
            "cameras": 1,
            "other_models": [],
            "warnings": [],
            "headline": f"{len(names)} of {len(names)} photos placed",
        },
        "depth": {
            "views": len(names),
            "requested": "sweep",
            "requested_revision": None,
            "prior": "the plane sweep",
            "without_prior": [],
            "made_on": {"cpu": len(names)},
            "headline": f"{len(names)} priors from the plane sweep",
        },
        "scale": {"views": len(names), "median_residual": 0.05, "headline": "fitted"},
        "refine": {
            "views": len(names),
            "accepted_share": 0.9,
            "made_on": {"cpu": len(names)},
            "headline": f"{len(names)} views refined",
        },
        "fuse": {"points": points, "headline": f"{points:,} points"},
    }


def _manifest(folder: Path, summary: dict[str, Any]) -> Any:
    from refdepth.pipeline.manifest import Manifest, record_files

    return Manifest(
        stage=folder.name,
        version=1,
        fingerprint=f"{folder.name}-fingerprint",
        settings={},
        inputs={},
        files=record_files(folder, [path for path in folder.rglob("*") if path.is_file()]),
        summary={"warnings": [], **summary},
        libraries={"python": "3"},
        seconds=1.5,
        peak_memory_mb=300.0,
    )
