"""How good the depth of every preset is, and what it costs.

Synthetic scenes have exact depth and a simulated monocular prior of two kinds: wrong smoothly over
the picture, and wrong surface by surface. Where $REFDEPTH_SCENES holds `hololens` with an
undistorted model (`ref/dense`), its sensor depth and its maps in `mono/` are used as well.

    python benchmarks/accuracy.py [--quick] [--scenes room plain_walls] [--methods scaled balanced]
                                  [--cloud] [--curve] [--output benchmarks/results/accuracy.json]
"""

from __future__ import annotations

import os

# As the command line does, before torch is imported: idle threads of one pool must not spin while
# the other pool works.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from refdepth.depth_map import DepthMap
from refdepth.evaluation import (
    Table,
    align_by_points,
    cloud_table,
    depth_tables,
    evaluate_cloud,
    evaluate_depth,
    true_cloud,
)
from refdepth.fusion import FusionSettings, fuse
from refdepth.ground_truth import GroundTruth, open_ground_truth
from refdepth.prior.base import Prior, PriorKind
from refdepth.prior.maps import MapsPrior
from refdepth.refine.rounds import first_round, second_round
from refdepth.refine.settings import CoarseSettings, RefineSettings
from refdepth.render import select_renderer
from refdepth.resampling import InputPhoto
from refdepth.scale import ScaleSettings, apply_fit, borrowed_fit, fit_scale
from refdepth.scene import PosedImage, Scene, View
from refdepth.synthetic import PriorError, SyntheticScene, Variant, make_scene
from refdepth.view_selection import select_sources

Maps = dict[str, DepthMap]
METHODS = (
    "scaled",
    "coarse",
    "paper",
    "fast",
    "balanced",
    "high",
    "balanced without gradient steps",
)
CURVE_STEPS = (0, 1, 2, 4, 6, 10, 16)
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A scene with photos, a prior for each and the truth."""

    name: str
    scene: Scene
    prior: Callable[[View], Prior]
    truth: GroundTruth


def synthetic_tasks(names: list[str], args: argparse.Namespace, folder: Path) -> Iterator[Task]:
    """One task for each scene and kind of error of the prior."""
    for name in names:
        made = make_scene(name, args.seed, args.views, args.width, args.height)
        place = folder / name
        made.write_ground_truth(place / "gt")
        scene = made.to_scene(place / "images")
        for error in PriorError:
            yield Task(
                name=f"{name}, {error} prior",
                scene=scene,
                prior=partial(simulated, made, args.seed, error),
                truth=open_ground_truth(place / "gt"),
            )


def simulated(made: SyntheticScene, seed: int, error: PriorError, view: View) -> Prior:
    """The simulated prior of a view of the scene."""
    stems = [Path(view.name).stem for view in made.views]
    return made.simulated_prior(stems.index(Path(view.name).stem), seed, error=error)


def photo_task(folder: Path) -> Task | None:
    """The real scene in `folder`, None where it is not complete."""
    dense = folder / "ref" / "dense"
    if not all((folder / part).is_dir() for part in ("gt", "mono")) or not dense.is_dir():
        return None
    scene = Scene.from_colmap(dense / "sparse", dense / "images")
    truth = open_ground_truth(folder / "gt")

    def photo_of(view: View) -> InputPhoto:
        found = truth.load(view.name)
        if found is None or found.K is None:
            raise SystemExit(f"{view.name}: its truth has no calibration to place the prior with.")
        K, (height, width) = found.K, found.depth.shape
        params = (K[0, 0], K[1, 1], K[0, 2], K[1, 2])
        return InputPhoto(
            name=view.name,
            camera_model="PINHOLE",
            width=width,
            height=height,
            camera_params=tuple(float(value) for value in params),
        )

    maps = MapsPrior(folder / "mono", PriorKind.INVERSE_AFFINE, photo_of)
    return Task(
        name=folder.name, scene=scene, prior=lambda view: maps.estimate(view, scene), truth=truth
    )


def refine_settings(method: str, paper_iterations: int) -> RefineSettings:
    """Settings of a method that refines."""
    if method == "paper":
        settings = RefineSettings.preset("paper")
        return with_steps(settings, min(paper_iterations, settings.iterations))
    if method == "balanced without gradient steps":
        return with_steps(RefineSettings.preset("balanced"), 0)
    if method in ("fast", "balanced", "high"):
        return RefineSettings.preset(method)
    raise SystemExit(f"{method}: no such method. Choose from {', '.join(METHODS)}.")


def with_steps(settings: RefineSettings, steps: int) -> RefineSettings:
    """The same settings with another number of gradient steps."""
    fine = settings.fine.model_copy(update={"iterations": steps})
    return settings.model_copy(update={"iterations": steps, "fine": fine})


def scaled_depth(task: Task) -> dict[str, np.ndarray]:
    """Every view's prior, fitted to the SfM points."""
    settings = ScaleSettings()
    priors = {view.name: task.prior(view) for view in task.scene.views}
    fits = {
        view.name: fit_scale(
            priors[view.name], task.scene.sparse_depth(view), settings, fallback=None
        )
        for view in task.scene.views
    }
    fallback = borrowed_fit(list(fits.values()))
    for view in task.scene.views:
        if fits[view.name].weak:
            sparse = task.scene.sparse_depth(view)
            fits[view.name] = fit_scale(priors[view.name], sparse, settings, fallback=fallback)
    return {name: apply_fit(priors[name], fit) for name, fit in fits.items()}


def coarse_depth(task: Task, scaled: dict[str, np.ndarray]) -> tuple[Maps, float]:
    """Depth after the coarse stage alone, and seconds a view."""
    from refdepth.refine.coarse import coarse_refine

    start = time.perf_counter()
    out = {
        view.name: unsure(
            coarse_refine(scaled[view.name], task.scene.sparse_depth(view), CoarseSettings(), 0)
        )
        for view in task.scene.views
    }
    return out, (time.perf_counter() - start) / len(task.scene)


def refined_depth(
    task: Task,
    scaled: dict[str, np.ndarray],
    images: dict[str, PosedImage],
    settings: RefineSettings,
) -> tuple[Maps, float]:
    """Depth after both rounds, and seconds a view."""
    scene = task.scene
    renderer = select_renderer("cpu") if settings.iterations else None
    sources = {view.name: select_sources(scene, view, settings.sources) for view in scene.views}
    start = time.perf_counter()
    first: Maps = {}
    for view in scene.views:
        found = first_round(
            images[view.name],
            [images[name] for name in sources[view.name]],
            scaled=scaled[view.name],
            sparse=scene.sparse_depth(view),
            settings=settings,
        )
        first[view.name] = found.depth_map
    out: Maps = {}
    for view in scene.views:
        out[view.name] = second_round(
            images[view.name],
            [images[name] for name in sources[view.name]],
            scaled=scaled[view.name],
            sparse=scene.sparse_depth(view),
            first=first[view.name],
            source_depths=[first[name] for name in sources[view.name]],
            settings=settings,
            renderer=renderer,
        ).depth_map
    return out, (time.perf_counter() - start) / len(scene)


def unsure(depth: np.ndarray) -> DepthMap:
    """Depth that comes without a confidence."""
    return DepthMap(depth=depth, confidence=np.where(depth > 0, 0.5, 0).astype(np.float32))


def measure(task: Task, args: argparse.Namespace) -> dict[str, Any]:
    """All methods on one task."""
    images = {view.name: view.load() for view in task.scene.views}
    start = time.perf_counter()
    scaled = scaled_depth(task)
    seconds = {"scaled": (time.perf_counter() - start) / len(task.scene)}
    depths: dict[str, Maps] = {"scaled": {n: unsure(d) for n, d in scaled.items()}}
    for method in args.methods:
        if method == "coarse":
            depths[method], seconds[method] = coarse_depth(task, scaled)
        elif method != "scaled":
            settings = refine_settings(method, args.paper_iterations)
            depths[method], seconds[method] = refined_depth(task, scaled, images, settings)
        print(f"  {method}: {seconds[method]:.2f} s a view", flush=True)
    result = evaluate_depth(
        task.scene, {name: maps.get for name, maps in depths.items()}, task.truth
    )
    for table in depth_tables(result):
        print(f"\n{table.to_text()}")
    found: dict[str, Any] = {"seconds_per_view": seconds, "depth": result}
    if args.cloud:
        found["cloud"] = {name: measure_cloud(task, maps) for name, maps in depths.items()}
    if args.curve:
        found["curve"] = curve(task, scaled, images)
    return found


def measure_cloud(task: Task, maps: Maps) -> dict[str, Any]:
    """Score of the fused cloud."""
    cloud = fuse(task.scene, maps.__getitem__, FusionSettings())
    result = evaluate_cloud(
        cloud.points,
        true_cloud(task.scene, task.truth, 0.01),
        alignment=align_by_points(task.scene, task.truth),
        spacing=0.01,
    )
    print(f"\n{cloud_table(result).to_text()}")
    return result


def curve(
    task: Task, scaled: dict[str, np.ndarray], images: dict[str, PosedImage]
) -> list[dict[str, float]]:
    """Error against time as gradient steps are added."""
    points = []
    for steps in CURVE_STEPS:
        settings = with_steps(RefineSettings.preset("balanced"), steps)
        maps, seconds = refined_depth(task, scaled, images, settings)
        mean = evaluate_depth(task.scene, {"depth": maps.get}, task.truth)["stages"]["depth"]
        errors = mean["mean"]["all"]
        points.append(
            {
                "steps": steps,
                "seconds_per_view": seconds,
                "abs_rel": errors["abs_rel"],
                "inlier_1.03": errors["inlier_1.03"],
                "edge_abs_rel": mean["mean"]["edges"]["abs_rel"],
            }
        )
    keys = ("steps", "seconds_per_view", "abs_rel", "inlier_1.03", "edge_abs_rel")
    rows = tuple(tuple(f"{point[key]:.4g}" for key in keys) for point in points)
    print(f"\n{Table(title='Error against time', columns=keys, rows=rows).to_text()}")
    return points


def overview(results: dict[str, Any]) -> Table:
    """One line a scene and method."""
    rows = []
    for scene, found in results.items():
        for method, stage in found["depth"]["stages"].items():
            whole, edges = stage["mean"]["all"], stage["mean"]["edges"]
            rows.append(
                (
                    scene,
                    method,
                    f"{whole['inlier_1.03']:.3f}",
                    f"{whole['abs_rel']:.4f}",
                    f"{whole['median_rel']:.4f}",
                    f"{edges['abs_rel']:.4f}",
                    f"{whole['coverage']:.3f}",
                    f"{found['seconds_per_view'][method]:.2f}",
                )
            )
    columns = ("scene", "method", "< 3 %", "AbsRel", "median", "edges", "coverage", "s a view")
    return Table(title="All scenes", columns=columns, rows=tuple(rows))


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = [str(variant) for variant in Variant]
    parser.add_argument("--scenes", nargs="+", default=[*every, "hololens"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--views", type=int, default=8, help="photos of a synthetic scene")
    parser.add_argument("--width", type=int, default=480)
    parser.add_argument("--height", type=int, default=360)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--paper-iterations",
        type=int,
        default=400,
        help="gradient steps of `paper`; the published 24,000 take hours on a CPU",
    )
    parser.add_argument("--cloud", action="store_true", help="also fuse and score the clouds")
    parser.add_argument("--curve", action="store_true", help="also measure error against time")
    parser.add_argument("--quick", action="store_true", help="two small scenes, to see it work")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "accuracy.json")
    args = parser.parse_args()
    if args.quick:
        args.scenes, args.views, args.width, args.height = ["room", "plain_walls"], 5, 192, 144
        args.paper_iterations = min(args.paper_iterations, 20)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        synthetic = [name for name in args.scenes if name != "hololens"]
        for task in synthetic_tasks(synthetic, args, Path(folder)):
            print(f"\n=== {task.name}", flush=True)
            results[task.name] = measure(task, args)
        if "hololens" in args.scenes:
            given = os.environ.get("REFDEPTH_SCENES")
            real = photo_task(Path(given) / "hololens") if given else None
            if real is None:
                print("\nhololens is left out: set REFDEPTH_SCENES to where it lies, undistorted.")
            else:
                print(f"\n=== {real.name}", flush=True)
                results[real.name] = measure(real, args)
    table = overview(results)
    print(f"\n{table.to_text()}")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "arguments": {k: v for k, v in vars(args).items() if k != "output"},
    }
    args.output.write_text(json.dumps({"about": about, "results": results}, indent=1) + "\n")
    print(f"\nWritten to {args.output}")


if __name__ == "__main__":
    main()
