"""From a COLMAP model to refined depth and a cloud, step by step, without a run folder.

    python examples/refine_views.py MODEL IMAGES OUT [--views 5] [--quality fast]

MODEL is an undistorted COLMAP model (text or binary), IMAGES its photos. Without MODEL and IMAGES a
synthetic room with exact depth is used, and the errors before and after are printed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import refdepth
from refdepth.io.colmap import write_dense_workspace
from refdepth.io.depth_sets import write_depth_set
from refdepth.io.ply import write_ply
from refdepth.synthetic import SyntheticScene, make_scene


def main() -> None:
    """Reads the arguments and runs the steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="[MODEL IMAGES] OUT")
    parser.add_argument("--views", type=int, default=5, help="how many views to refine")
    parser.add_argument("--quality", default="fast", choices=["fast", "balanced", "high"])
    arguments = parser.parse_args()
    *given, out = arguments.paths
    out.mkdir(parents=True, exist_ok=True)

    # A scene: undistorted photos, their cameras and the SfM points they see.
    room = None
    if given:
        scene = refdepth.read_scene(*given)
    else:
        room = make_scene(views=arguments.views, width=240, height=180)
        scene = room.to_scene(out / "photos")
    views = scene.views[: arguments.views]
    print(f"{len(scene)} views, {len(scene.points)} points")

    # A prior per view (here the plane sweep, which needs no weights), fitted to the SfM points.
    known = refdepth.Scene(views, scene.points)
    scaled = refdepth.scale_scene(known, refdepth.SweepPrior())  # (H, W) depth by name

    # Two rounds: the second also uses what the first found in the neighbouring views.
    settings = refdepth.RefineSettings.preset(arguments.quality)
    refined = refdepth.refine_scene(known, scaled, settings=settings)
    if room is not None:
        print_errors(room, scaled, {name: found.depth for name, found in refined.items()})

    # One cloud, and files for other tools.
    cloud = refdepth.fuse(known, refined.__getitem__, refdepth.FusionSettings())
    write_ply(out / "cloud.ply", cloud)
    write_depth_set(out / "depth", known, refined.__getitem__)
    write_dense_workspace(out / "colmap", known, refined.__getitem__)
    print(f"{len(cloud):,} points in {out / 'cloud.ply'}")


def print_errors(
    room: SyntheticScene, before: dict[str, np.ndarray], after: dict[str, np.ndarray]
) -> None:
    """Median relative depth error against the exact depth."""
    exact = {Path(view.name).stem: view.depth for view in room.views}
    for label, depths in (("scaled prior", before), ("refined", after)):
        errors = [
            np.abs(depth / exact[Path(name).stem] - 1)[depth > 0] for name, depth in depths.items()
        ]
        print(f"{label}: median depth error {100 * np.median(np.concatenate(errors)):.2f} %")


if __name__ == "__main__":
    main()
