"""What each quality resolves of fine detail, in photos of 2 megapixels and of 12.

A synthetic wall with exact depth: bars of known widths before it, relief of known heights on it.
Cameras are given, priors simulated, at a network's resolution and with smeared edges. Each case is
refined in a process of its own, which has no other views to work on at the same time.

    python benchmarks/detail.py [--sizes 1632x1224 4032x3024] [--qualities fast balanced high]
        [--set refine.FIELD=VALUE ...] [--views 6] [--judged 2] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from machine import machine
from scipy import ndimage

from refdepth.api import refine_scene
from refdepth.evaluation import Table
from refdepth.pipeline.config import build_config
from refdepth.pipeline.memory import PeakMemory
from refdepth.priors.fit import apply_fit, fit_scene
from refdepth.settings import Quality
from refdepth.synthetic import PriorError, simulate_prior
from refdepth.synthetic.detail import BARS_M, Detail, make_detail
from refdepth.synthetic.view import SyntheticView
from refdepth.types.prior import PriorKind
from refdepth.types.scene import Scene

MAP_PIXELS = 518 * 686
RIGHT = 0.03
"""Relative error of depth that counts as right."""
BESIDE_M = 0.015
"""How far from a bar, on the wall, its neighbourhood reaches."""
SCALED = "scaled prior"
Maps = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """A scene and what its refinement starts from."""

    scene: Scene
    scaled: Maps
    judged: tuple[str, ...]


def make_inputs(detail: Detail, judged: int, folder: Path) -> Inputs:
    """Photos in `folder`, and scaled priors."""
    scene = detail.scene.to_scene(folder)
    priors = {}
    for number, (name, view) in enumerate(zip(scene.names, detail.scene.views, strict=True)):
        by = max(1, round((view.depth.size / MAP_PIXELS) ** 0.5))
        rows, columns = (slice(by // 2, None, by),) * 2
        prior = simulate_prior(
            view.depth[rows, columns],
            view.surface[rows, columns],
            PriorKind.INVERSE_AFFINE,
            PriorError.SMOOTH,
            np.random.default_rng([0, number]),
        )
        priors[name] = replace(prior, step=(float(by), float(by)))
    fits = fit_scene(priors, {view.name: scene.sparse_depth(view) for view in scene.views})
    scaled = {
        name: apply_fit(priors[name], fit, scene[name].camera.shape) for name, fit in fits.items()
    }
    middle = sorted(scene.names, key=lambda name: np.linalg.norm(scene[name].center))
    return Inputs(scene=scene, scaled=scaled, judged=tuple(middle[:judged]))


def refine(inputs: Inputs, quality: str, assignments: list[str]) -> tuple[Maps, dict[str, float]]:
    """Depth of the judged views, CPU seconds a view and memory beside the inputs (MiB)."""
    settings = build_config(quality=Quality(quality), assignments=assignments).refine
    moments: dict[str, float] = {}

    def progress(part: str, done: int, count: int) -> None:
        if not done:
            moments[part] = time.process_time()

    before = psutil.Process().memory_info().rss / 2**20
    peak = PeakMemory()
    found = refine_scene(
        inputs.scene, inputs.scaled, settings=settings, views=inputs.judged, progress=progress
    )
    end = time.process_time()
    first = moments["refining views"] - moments["matching views"]
    second = end - moments["refining views"]
    cost = {
        "first, CPU s": first / len(inputs.scene),
        "second, CPU s": second / len(inputs.judged),
        "memory, MiB": peak.megabytes() - before,
    }
    return {name: depth_map.depth for name, depth_map in found.items()}, cost


def judge(detail: Detail, inputs: Inputs, maps: Maps) -> dict[str, Any]:
    """What `maps` resolve: shares of right pixels on bars by width (mm) and beside them, gain and
    correlation of reliefs by height and side (mm), median relative error of smooth things."""
    views = dict(zip(inputs.scene.names, detail.scene.views, strict=True))
    seen = [(views[name], depth, detail.base_depth(views[name])) for name, depth in maps.items()]
    bars: dict[str, float] = {}
    for width in sorted({bar.width for bar in detail.bars}):
        ids = [bar.surface for bar in detail.bars if bar.width == width]
        on = [_is_right(view, depth)[np.isin(view.surface, ids)] for view, depth, _ in seen]
        bars[f"{1000 * width:g}"] = float(np.concatenate(on).mean())
    all_bars = [bar.surface for bar in detail.bars]
    beside = [_is_right(view, depth)[_beside(view, all_bars)] for view, depth, _ in seen]
    smooth = [
        (np.abs(depth / view.depth - 1))[_inside(view, detail.smooth, all_bars)]
        for view, depth, _ in seen
    ]
    reliefs = {}
    for relief in detail.reliefs:
        parts = [
            (base[on] - view.depth[on], base[on] - depth[on])
            for view, depth, base in seen
            if (on := np.isin(view.surface, relief.surfaces)).any()
        ]
        true, found = (
            np.concatenate([one - np.median(one) for one in some])
            for some in zip(*parts, strict=True)
        )
        true, found = true - true.mean(), found - found.mean()
        reliefs[f"{1000 * relief.height:g}/{1000 * relief.side:g}"] = {
            "gain": float(true @ found / (true @ true)),
            "correlation": float(true @ found / np.sqrt((true @ true) * (found @ found) + 1e-30)),
        }
    return {
        "bars": bars,
        "beside": float(np.concatenate(beside).mean()),
        "reliefs": reliefs,
        "smooth": float(np.median(np.concatenate(smooth))),
    }


def _is_right(view: SyntheticView, depth: np.ndarray) -> np.ndarray:
    return np.abs(depth / view.depth - 1) < RIGHT


def _beside(view: SyntheticView, bars: list[int]) -> np.ndarray:
    on = np.isin(view.surface, bars)
    reach = BESIDE_M * view.camera.K[0, 0] / np.median(view.depth)
    return (ndimage.distance_transform_edt(~on) <= reach) & ~on


def _inside(view: SyntheticView, smooth: tuple[int, ...], bars: list[int]) -> np.ndarray:
    """Pixels on smooth things, three times as far from everything else."""
    reach = 3 * BESIDE_M * view.camera.K[0, 0] / np.median(view.depth)
    inside = np.zeros(view.surface.shape, bool)
    for surface in smooth:
        inside |= ndimage.distance_transform_edt(view.surface == surface) > reach
    return inside


def run(inputs: Inputs, quality: str, assignments: list[str]) -> tuple[Maps, dict[str, float]]:
    """`refine` in a process of its own."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh) as pool:
        return pool.submit(refine, inputs, quality, assignments).result()


def tables(results: dict[tuple[str, str], dict[str, Any]], focal: dict[str, float]) -> list[Table]:
    """Costs and smooth parts; bars; reliefs."""
    cases = list(results.items())
    bars, reliefs = (list(next(iter(results.values()))[part]) for part in ("bars", "reliefs"))
    costs = [name for name in cases[-1][1] if name.endswith((" s", "MiB"))]
    widths = [
        (size, "width, px", *(f"{focal[size] * float(mm) / 1000 / BARS_M:.1f}" for mm in bars), "")
        for size in focal
    ]
    return [
        Table(
            title="Median relative error of smooth things, and what a view costs",
            columns=("size", "depth", "error", *costs),
            rows=tuple(
                (*case, f"{found['smooth']:.5f}", *(_figure(found.get(name)) for name in costs))
                for case, found in cases
            ),
        ),
        Table(
            title="Share of right pixels on bars by width, and on the wall beside them",
            columns=("size", "depth", *(f"{mm} mm" for mm in bars), "beside"),
            rows=(
                *widths,
                *(
                    (
                        *case,
                        *(f"{share:.2f}" for share in found["bars"].values()),
                        f"{found['beside']:.3f}",
                    )
                    for case, found in cases
                ),
            ),
        ),
        Table(
            title="Relief, height / side in mm: share of its height that is found, and correlation",
            columns=("size", "depth", *reliefs),
            rows=tuple(
                (
                    *case,
                    *(
                        f"{one['gain']:.2f} {one['correlation']:.2f}"
                        for one in found["reliefs"].values()
                    ),
                )
                for case, found in cases
            ),
        ),
    ]


def _figure(number: float | None) -> str:
    return "" if number is None else f"{number:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=["1632x1224", "4032x3024"])
    parser.add_argument("--qualities", nargs="+", default=["fast", "balanced", "high"])
    parser.add_argument("--set", nargs="+", default=[], dest="assignments")
    parser.add_argument("--views", type=int, default=6)
    parser.add_argument("--judged", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    results: dict[tuple[str, str], dict[str, Any]] = {}
    focal: dict[str, float] = {}
    for size in args.sizes:
        width, height = map(int, size.split("x"))
        detail = make_detail(0, args.views, width, height)
        focal[size] = float(detail.scene.camera.K[0, 0])
        with tempfile.TemporaryDirectory(prefix="detail-") as folder:
            inputs = make_inputs(detail, args.judged, Path(folder))
            scaled = {name: inputs.scaled[name] for name in inputs.judged}
            results[size, SCALED] = judge(detail, inputs, scaled)
            for quality in args.qualities:
                maps, cost = run(inputs, quality, args.assignments)
                results[size, quality] = {**judge(detail, inputs, maps), **cost}
    for table in tables(results, focal):
        print(table.to_text(), end="\n\n")
    if args.json is not None:
        found = {f"{size}, {depth}": one for (size, depth), one in results.items()}
        told = {"machine": machine(), "arguments": vars(args), "results": found}
        args.json.write_text(json.dumps(told, indent=1, default=str))


if __name__ == "__main__":
    main()
