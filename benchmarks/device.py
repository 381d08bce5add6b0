"""What refining a view costs on a device: seconds by part, operations, waits, bytes.

The ways are the compiled loops of the CPU on one thread and on all, tensor operations on the CPU,
and, where there is a GPU, the same there, with the torch renderer and with nvdiffrast. All refine
the same view of a synthetic room from the same inputs; the first call of each is not counted. The
floor is the time to copy as many bytes as its operations read and write.

    python benchmarks/device.py [--sizes 640x480 ...] [--quality balanced] [--json FILE]
"""

from __future__ import annotations

from refdepth.pipeline.environment import prepare_process

# As the command line does, before torch is imported.
prepare_process()

import argparse
import json
import tempfile
import time
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from refdepth.devices import cuda_available, mps_available
from refdepth.geometry.working_view import WorkingView
from refdepth.io.images import load_photo
from refdepth.matching.neighbours import select_sources
from refdepth.priors.fit import apply_fit, fit_scene
from refdepth.refine import rounds
from refdepth.refine.refined_view import RefinedView
from refdepth.refine.rounds import first_round, second_round
from refdepth.refine.settings import RefineSettings
from refdepth.render import Renderer, computing_device, select_renderer
from refdepth.render.selection import nvdiffrast_installed
from refdepth.synthetic import make_scene

SIZES = ("640x480", "1280x720", "1920x1280")
VIEWS = 10
_WAITS = ("aten._local_scalar_dense", "aten.nonzero", "aten.masked_select", "aten.equal")
"""Operations whose result the host has to wait for."""


class Traffic(TorchDispatchMode):
    """Counts operations, what they read and write, waits, and the bytes of tensors alive."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = self.waits = self.bytes = self.alive = self.peak = 0
        self.longest: Counter[str] = Counter()
        self._known: dict[int, int] = {}

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        results = operation(*args, **(kwargs or {}))
        name = str(operation)
        given, made = (
            [leaf for leaf in tree_leaves(part) if isinstance(leaf, torch.Tensor)]
            for part in ((args, kwargs), results)
        )
        self.waits += name.startswith(_WAITS) or _is_read_back(given, made)
        shared = {tensor.untyped_storage()._cdata for tensor in given}
        if any(tensor.untyped_storage()._cdata not in shared for tensor in made) or name.endswith(
            ("_", "_.default", ".out")
        ):
            self.operations += 1
            moved = sum(tensor.nbytes for tensor in (*given, *made))
            self.bytes += moved
            self.longest[name] += moved
        for tensor in (*given, *made):  # what was put there before, too
            storage = tensor.untyped_storage()
            if storage._cdata not in self._known:
                self._watch(storage)
        return results

    def _watch(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._known[key] = size
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.alive -= self._known.pop(key)


def _is_read_back(given: list[torch.Tensor], made: list[torch.Tensor]) -> bool:
    return any(one.device.type != "cpu" for one in given) and any(
        one.device.type == "cpu" for one in made
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A view with its sources, and what their first rounds found."""

    size: str
    views: dict[str, WorkingView]
    name: str
    sources: tuple[str, ...]
    common: dict[str, Any]
    first: dict[str, RefinedView]

    @classmethod
    def of(cls, size: str, settings: RefineSettings, folder: Path) -> Case:
        """Of a room photographed at `size`, like 640x480."""
        width, height = map(int, size.split("x"))
        made = make_scene("room", 0, VIEWS, width, height)
        scene = made.to_scene(folder / size)
        priors = {view.name: made.simulated_prior(i) for i, view in enumerate(scene.views)}
        points = {view.name: scene.sparse_depth(view) for view in scene.views}
        fits = fit_scene(priors, points)
        scaled = {name: apply_fit(priors[name], fit) for name, fit in fits.items()}
        views = {
            view.name: WorkingView.loaded(partial(load_photo, view), **settings.grid)
            for view in scene.views
        }
        name = scene.names[VIEWS // 2]
        sources = select_sources(scene, scene[name], settings.sources)
        first = {}
        for other in (name, *sources):
            found = select_sources(scene, scene[other], settings.sources)
            first[other] = first_round(
                views[other],
                [views[one] for one in found],
                scaled=scaled[other],
                sparse=points[other],
                settings=settings,
            )
        common = {
            "scaled": scaled[name],
            "sparse": points[name],
            "settings": settings,
        }
        return cls(size=size, views=views, name=name, sources=sources, common=common, first=first)

    def refine(self, renderer: Renderer) -> tuple[RefinedView, RefinedView]:
        """Both rounds of the view."""
        device = computing_device(renderer)
        views = self.views[self.name], [self.views[other] for other in self.sources]
        one = first_round(*views, **self.common, device=device)
        other = second_round(
            *views,
            **self.common,
            first=self.first[self.name].depth_map,
            source_depths=[self.first[source].depth_map for source in self.sources],
            renderer=renderer,
            device=device,
        )
        return one, other


@dataclass(frozen=True, kw_only=True, eq=False)
class Way:
    """Something to refine with."""

    name: str
    renderer: Renderer
    threads: int = 1
    wait: Callable[[], None] = field(default=lambda: None)
    """Waits for the device."""


def ways() -> list[Way]:
    """Those that this machine has."""
    cpu, tensors = select_renderer("cpu"), select_renderer("torch", "cpu")
    cores = numba.config.NUMBA_NUM_THREADS
    found = [
        Way(name="cpu, 1 thread", renderer=cpu),
        Way(name=f"cpu, {cores} threads", renderer=cpu, threads=cores),
        Way(name="torch on cpu, 1 thread", renderer=tensors),
    ]
    if cuda_available():
        on = select_renderer("torch", "cuda")
        found.append(Way(name="torch on cuda", renderer=on, wait=torch.cuda.synchronize))
        if nvdiffrast_installed():
            on = select_renderer("nvdiffrast")
            found.append(Way(name="nvdiffrast on cuda", renderer=on, wait=torch.cuda.synchronize))
    if mps_available():
        on = select_renderer("torch", "mps")
        found.append(Way(name="torch on mps", renderer=on, wait=torch.mps.synchronize))
    return found


def measure(case: Case, way: Way, repeat: int) -> dict[str, Any]:
    """Seconds by part, the least of `repeat` runs each, and traffic of one more."""
    numba.set_num_threads(way.threads)
    torch.set_num_threads(way.threads)
    lap = rounds._Clock.lap

    def waited(clock: Any, part: str) -> None:
        way.wait()
        lap(clock, part)

    rounds._Clock.lap = waited  # type: ignore[method-assign]
    try:
        case.refine(way.renderer)
        best: dict[str, float] = {}
        for _ in range(repeat):
            began = time.perf_counter()
            both = case.refine(way.renderer)
            way.wait()
            seconds = {"whole": time.perf_counter() - began}
            for number, one in zip(("1", "2"), both, strict=True):
                seconds |= {f"{number} {part}": s for part, s in one.record["seconds"].items()}
            best = {part: min(s, best.get(part, np.inf)) for part, s in seconds.items()}
    finally:
        rounds._Clock.lap = lap  # type: ignore[method-assign]
    result = {"way": way.name, "size": case.size, "seconds": best, "depth": both[1].depth}
    if computing_device(way.renderer) is not None:
        with Traffic() as traffic:
            case.refine(way.renderer)
        result |= {
            "operations": traffic.operations,
            "waits": traffic.waits,
            "gigabytes": traffic.bytes / 1e9,
            "peak_megabytes": traffic.peak / 1e6,
            "floor": traffic.bytes / bandwidth(way),
            "most_bytes": {name: size / 1e9 for name, size in traffic.longest.most_common(5)},
        }
    return result


def bandwidth(way: Way) -> float:
    """Bytes a second that a copy reads and writes on the way's device."""
    source = torch.zeros(1 << 26, device=way.renderer.device)
    target = torch.empty_like(source)
    best = np.inf
    for _ in range(5):
        way.wait()
        began = time.perf_counter()
        target.copy_(source)
        way.wait()
        best = min(best, time.perf_counter() - began)
    return 2 * source.nbytes / best


def table(results: list[dict[str, Any]]) -> str:
    """One line a way, in seconds."""
    parts = list(dict.fromkeys(part for one in results for part in one["seconds"]))
    lines = [
        "| way | " + " | ".join(parts) + " | operations | waits | GB | floor | peak MB | same |"
    ]
    lines.append("|---" * (len(parts) + 7) + "|")
    for one in results:
        seconds = [f"{one['seconds'].get(part, 0):.3f}" for part in parts]
        counted = ["", "", "", "", ""]
        if "operations" in one:
            counted = [
                f"{one['operations']}",
                f"{one['waits']}",
                f"{one['gigabytes']:.1f}",
                f"{one['floor']:.3f}",
                f"{one['peak_megabytes']:.0f}",
            ]
        lines.append("| " + " | ".join([one["way"], *seconds, *counted, one["same"]]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measures and prints a table for each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=SIZES)
    parser.add_argument("--quality", default="balanced")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    settings = RefineSettings.preset(given.quality)
    everything = []
    with tempfile.TemporaryDirectory() as folder:
        for size in given.sizes:
            case = Case.of(size, settings, Path(folder))
            results = [measure(case, way, given.repeat) for way in ways()]
            for one in results:
                one["same"] = _same(one["depth"], results[0]["depth"])
            for one in results:
                del one["depth"]
            print(f"\n{size}, {given.quality}: seconds a view; 1 and 2 are the rounds\n")
            print(table(results), flush=True)
            everything += results
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(everything, indent=1))


def _same(depth: np.ndarray, expected: np.ndarray) -> str:
    """The share of pixels within 1e-4 of log depth."""
    known = (depth > 0) & (expected > 0)
    apart = np.abs(np.log(depth[known] / expected[known]))
    return f"{(apart < 1e-4).sum() / max((expected > 0).sum(), 1):.2%}"


if __name__ == "__main__":
    main()
