"""How good the depth of every preset is, and what it costs.

Synthetic scenes have exact depth and a simulated monocular prior, wrong smoothly over the picture
or surface by surface. Real scenes are the folders with `images` and `gt` in $REFDEPTH_SCENES or
`--real`, with the maps in `mono/` and `mono_net/`. `--priors` chooses: these, the plane sweep, and
the first of a scene's priors made useless: constant, half of it or all of it upside down.

    python benchmarks/accuracy.py [--quick] [--scenes room hololens] [--methods scaled balanced]
                                  [--priors smooth mono sweep] [--real FOLDER] [--ablation]
                                  [--curve] [--output benchmarks/results/accuracy.json]
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
from pathlib import Path
from typing import Any

import numpy as np
from accuracy_scenes import (
    PRIORS,
    ScaledPriors,
    Task,
    photo_tasks,
    real_scenes,
    synthetic_tasks,
)
from accuracy_tables import ablation, by_prior, mean_over, never_worse, overview, promises

from refdepth.cores import usable_cores
from refdepth.evaluation import evaluate_depth
from refdepth.evaluation.correspondence import scale_from_points
from refdepth.geometry.working_view import WorkingView
from refdepth.io.images import load_photo
from refdepth.matching.neighbours import closest_views, select_sources
from refdepth.pipeline.config import RunConfig, build_config
from refdepth.priors.fit import ScaleSettings
from refdepth.refine.paper.coarse import coarse_refine
from refdepth.refine.paper.settings import CoarseSettings
from refdepth.refine.rounds import first_round, second_round
from refdepth.refine.settings import RefineSettings
from refdepth.render import select_renderer
from refdepth.settings import Quality
from refdepth.synthetic import Variant
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene

Maps = dict[str, DepthMap]
METHODS = ("scaled", "coarse", "paper", "fast", "no gradient steps", "balanced", "high")
LEVERS: dict[str, dict[str, Any]] = {
    "no gradient steps": {"refine.iterations": 0},
    "unbent fits": {"scale.bend_from": 1e9},
    "not bent to photos": {"refine.wide.from_error": 1e9},
    "no close views": {"refine.wide.close_sources": 0},
    "few sources": {"refine.sources": 4},
    "even windows": {"refine.match.support_gray": 0.0},
    "no SfM points": {
        "refine.propagation.sparse_weight": 0.0,
        "refine.wide.spread.sparse_weight": 0.0,
    },
    "no neighbours": {
        "refine.consistency.weight": 0.0,
        "refine.consistency.least_confidence": 0.0,
        "refine.consistency.vote_gain": 0.0,
    },
    "no second search": {"refine.search_again.range": 1e-6, "refine.search_again.steps": 3},
    "no judge": {"refine.held_out": False},
    "smeared edges": {"refine.edge_reach": 0.0},
}
"""What `balanced` is without one of its levers: settings by their dotted names."""
SECOND_ROUND_ALONE = {"consistency", "search_again", "edge_reach", "iterations", "surface"}
"""Settings that first rounds do not read."""
USUAL_PRIORS = ("smooth", "objectwise", "mono")
CURVE_STEPS = (0, 1, 2, 4, 8, 16)
HERE = Path(__file__).resolve().parent


def config_of(method: str, paper_steps: int) -> RunConfig:
    """Settings of a method that refines."""
    if method in LEVERS:
        return build_config(quality=Quality.BALANCED, options=LEVERS[method])
    options = {"refine.paper.iterations": paper_steps} if method == Quality.PAPER else {}
    return build_config(quality=Quality(method), options=options)


class Bench:
    """One task and what its methods share: photos, scaled priors, first rounds."""

    def __init__(self, task: Task, every: int) -> None:
        self.task, self.scene = task, task.scene
        self.judged = [view.name for view in self.scene.views][::every]
        photos = {view.name: load_photo(view) for view in self.scene.views}
        grid = RefineSettings().grid
        self.images = {name: WorkingView.of(photo, **grid) for name, photo in photos.items()}
        self.points = {view.name: self.scene.sparse_depth(view) for view in self.scene.views}
        self._scaled: dict[str, ScaledPriors] = {}
        start = time.perf_counter()
        usual = self._priors(ScaleSettings())
        self.seconds = {"scaled": (time.perf_counter() - start) / len(self.scene)}
        self.maps: dict[str, Maps] = {"scaled": self._unsure(usual.depth)}
        self.view_errors: dict[str, np.ndarray] = {}
        """AbsRel of each judged view, once scored."""
        self._first: dict[str, tuple[Maps, float]] = {}

    def run(self, method: str, paper_steps: int) -> None:
        """Depth and seconds a view of one method."""
        if method == "coarse":
            start = time.perf_counter()
            scaled = self._priors(ScaleSettings()).depth
            bent = {
                name: coarse_refine(scaled[name], self.points[name], CoarseSettings(), 0)
                for name in self.judged
            }
            self.seconds[method] = (time.perf_counter() - start) / len(self.judged)
            self.maps[method] = self._unsure(bent)
        elif method != "scaled":
            config = config_of(method, paper_steps)
            self.maps[method], self.seconds[method] = self.refine(config)

    def refine(self, config: RunConfig) -> tuple[Maps, float]:
        """Depth of the judged views after both rounds, and seconds a view."""
        settings = config.refine
        sources = {
            view.name: select_sources(self.scene, view, settings.sources)
            for view in self.scene.views
        }
        first, seconds = self._first_rounds(config, sources)
        priors = self._priors(config.scale)
        renderer = select_renderer("cpu") if settings.gradient_steps else None
        out: Maps = {}
        start = time.perf_counter()
        for name in self.judged:
            out[name] = second_round(
                self.images[name],
                [self.images[source] for source in sources[name]],
                scaled=priors.depth[name],
                sparse=self.points[name],
                prior_error=priors.error[name],
                first=first[name],
                source_depths=[first[source] for source in sources[name]],
                settings=settings,
                renderer=renderer,
            ).depth_map
        return out, seconds + (time.perf_counter() - start) / len(self.judged)

    def _first_rounds(
        self, config: RunConfig, sources: dict[str, tuple[str, ...]]
    ) -> tuple[Maps, float]:
        """First rounds of the judged views and their sources; shared by methods that differ in
        nothing that they read."""
        settings, priors = config.refine, self._priors(config.scale)
        read = settings.model_dump_json(exclude=SECOND_ROUND_ALONE)
        key = read + config.scale.model_dump_json()
        if key not in self._first:
            needed = sorted({n for name in self.judged for n in (name, *sources[name])})
            start = time.perf_counter()
            maps = {
                name: first_round(
                    self.images[name],
                    [self.images[source] for source in sources[name]],
                    scaled=priors.depth[name],
                    sparse=self.points[name],
                    prior_error=priors.error[name],
                    close=self._close(name, priors.error[name], sources[name], settings),
                    settings=settings,
                ).depth_map
                for name in needed
            }
            self._first[key] = maps, (time.perf_counter() - start) / len(needed)
        return self._first[key]

    def _priors(self, settings: ScaleSettings) -> ScaledPriors:
        """The scene's priors under fits with these settings, made once."""
        key = settings.model_dump_json()
        if key not in self._scaled:
            self._scaled[key] = self.task.scaled(settings)
        return self._scaled[key]

    def _close(
        self, name: str, error: float, sources: tuple[str, ...], settings: RefineSettings
    ) -> list[WorkingView]:
        """The closest other views, where the prior is far off."""
        wide = settings.wide
        if error <= wide.from_error:
            return []
        found = closest_views(self.scene, self.scene[name], wide.close_sources, sources)
        return [self.images[other] for other in found]

    def _unsure(self, depths: dict[str, np.ndarray]) -> Maps:
        """Depth of the judged views that comes without a confidence."""
        return {
            name: DepthMap(
                depth=depths[name],
                confidence=np.where(depths[name] > 0, 0.5, 0).astype(np.float32),
            )
            for name in self.judged
        }

    def score(self) -> dict[str, dict[str, float]]:
        """Figures of every method over the judged views."""
        task = self.task
        judged = Scene([self.scene[name] for name in self.judged], self.scene.points)
        scale = scale_from_points(self.scene, task.truth)
        loads = {method: maps.get for method, maps in self.maps.items()}
        result = evaluate_depth(judged, loads, task.truth, scale=scale)
        stages = result["stages"]
        mirror = None
        if task.patch is not None:
            mirror = evaluate_depth(judged, loads, task.patch, scale=scale)["stages"]
        before = _abs_rel(stages["scaled"])
        out = {}
        for method, stage in stages.items():
            self.view_errors[method] = _abs_rel(stage)
            whole, edges = stage["mean"]["all"], stage["mean"]["edges"]
            trust = result["confidence"][method]
            ratio = _abs_rel(stage) / before
            out[method] = {
                "abs_rel": whole["abs_rel"],
                "median_rel": whole["median_rel"],
                "inlier_1.03": whole["inlier_1.03"],
                "edges_abs_rel": edges["abs_rel"],
                "coverage": whole["coverage"],
                "ause_over_random": trust["ause_abs_rel"] / trust["ause_random"],
                "gain_of_dropping_20_percent": trust["gain_of_dropping_20_percent"],
                "views": len(ratio),
                "views_improved": float((ratio < 1).mean()),
                "worst_view_ratio": float(ratio.max()),
                "seconds_per_view": self.seconds[method],
            }
            if mirror is not None:
                out[method]["mirror_abs_rel"] = mirror[method]["mean"]["all"]["abs_rel"]
        return out

    def curve(self) -> list[dict[str, float]]:
        """Error against time as gradient steps are added."""
        points = []
        for steps in CURVE_STEPS:
            self.maps = {"scaled": self.maps["scaled"]}
            name = f"{steps} steps"
            config = build_config(quality=Quality.BALANCED, options={"refine.iterations": steps})
            self.maps[name], self.seconds[name] = self.refine(config)
            points.append({"steps": steps, **self.score()[name]})
        return points


def _abs_rel(stage: dict[str, Any]) -> np.ndarray:
    return np.array([view["all"]["abs_rel"] for view in stage["views"].values()])


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = [str(variant) for variant in Variant]
    parser.add_argument("--scenes", nargs="+", help="default: all, synthetic and real")
    parser.add_argument("--priors", nargs="+", default=list(USUAL_PRIORS), choices=PRIORS)
    parser.add_argument(
        "--real",
        type=Path,
        default=os.environ.get("REFDEPTH_SCENES"),
        help="folder of real scenes; default: $REFDEPTH_SCENES",
    )
    parser.add_argument(
        "--methods", nargs="+", default=list(METHODS), choices=sorted({*METHODS, *LEVERS})
    )
    parser.add_argument(
        "--ablation",
        action="store_true",
        help="`balanced`, and what it is without each of its levers",
    )
    parser.add_argument("--views", type=int, default=8, help="photos of a synthetic scene")
    parser.add_argument("--every", type=int, default=2, help="judge each such synthetic view")
    parser.add_argument("--every-photo", type=int, default=5, help="judge each such real view")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--height", type=int, default=192)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--paper-steps",
        type=int,
        default=60,
        help="gradient steps of `paper`; the published 24,000 take hours on a CPU",
    )
    parser.add_argument("--curve", action="store_true", help="also measure error against time")
    parser.add_argument("--quick", action="store_true", help="three scenes, fewer views")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "accuracy.json")
    args = parser.parse_args()
    real = {folder.name: folder for folder in real_scenes(args.real)}
    args.real = [folder for name, folder in real.items() if name in (args.scenes or real)]
    unknown = set(args.scenes or ()) - {*every, *real}
    if unknown:
        parser.error(f"no such scene: {', '.join(sorted(unknown))} (real ones: --real)")
    args.scenes = [name for name in every if name in (args.scenes or every)]
    if args.quick:
        args.scenes = ["room", "plain_walls", "mirror_patch"]
        args.real = []
        args.every = 4
        args.paper_steps = min(args.paper_steps, 20)
    if args.ablation:
        args.methods = ["balanced", *LEVERS]
    if "scaled" not in args.methods:
        args.methods = ["scaled", *args.methods]
    return args


def main() -> None:
    """Measures, prints and writes."""
    args = arguments()
    scores: dict[str, Any] = {}
    curves: dict[str, Any] = {}
    errors: dict[str, dict[str, np.ndarray]] = {}

    def measure(task: Task, every: int) -> None:
        bench = Bench(task, every)
        for method in args.methods:
            bench.run(method, args.paper_steps)
        scores[task.name] = bench.score()
        errors[task.name] = bench.view_errors
        print(f"\n{overview(task.name, list(scores[task.name].items())).to_text()}", flush=True)
        if args.curve:
            curves[task.name] = bench.curve()
            rows = [(f"steps: {point['steps']}", point) for point in curves[task.name]]
            print(overview("Error against time", rows).to_text(), flush=True)

    with tempfile.TemporaryDirectory() as folder:
        size = {"views": args.views, "width": args.width, "height": args.height}
        for task in synthetic_tasks(
            args.scenes, args.priors, seed=args.seed, folder=Path(folder), **size
        ):
            measure(task, args.every)
        synthetic = list(scores.values())
        for given in args.real:
            for task in photo_tasks(given, args.priors, Path(folder) / f"real_{given.name}"):
                measure(task, args.every_photo)
    if not args.real and not args.quick:
        print("\nNo real scene: set REFDEPTH_SCENES, or --real, to a folder of them.")
    table = ablation if args.ablation else by_prior
    print(f"\n{table(scores, args.methods).to_text()}")
    if synthetic:
        mean = mean_over(synthetic)
        print(f"\n{overview('Mean over the synthetic scenes', list(mean.items())).to_text()}")
    for method in ("balanced", "fast", "high"):
        if method in args.methods:
            print(f"\n{promises(scores, method).to_text()}")
            print(f"\n{never_worse(errors, method).to_text()}")
    if "paper" in args.methods:
        print(f"\n`paper` is stopped after {args.paper_steps} of its 24,000 steps.")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "machine": platform.machine(),
        "cores": usable_cores(),
        "python": platform.python_version(),
        "arguments": {k: v for k, v in vars(args).items() if k not in ("output", "real")},
        "real": [folder.name for folder in args.real],
    }
    found = {"about": about, "scores": scores, "curves": curves}
    args.output.write_text(json.dumps(found, indent=1) + "\n")
    print(f"\nWritten to {args.output}")


if __name__ == "__main__":
    main()
