"""How fast one optimisation step is, rendered in several ways in one process.

A step moves the depth of a textured grid mesh: project into four views, render, mean absolute
colour error over covered pixels, backward, Adam. All ways do the same step on the same scene and
are timed in turn, so that what disturbs the machine disturbs all of them. The floor is the time to
copy as many bytes as any step moves that keeps its pictures in memory (see `FLOOR_BYTES`).

    python benchmarks/renderer.py [--iterations 20] [--quick] [--output results/renderer.json]
"""

from __future__ import annotations

from refdepth.pipeline.environment import prepare_process

# As the command line does, before torch is imported.
prepare_process()

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch

from refdepth.devices import cuda_available
from refdepth.geometry.mesh import grid_mesh
from refdepth.refine.paper.difference import mean_difference
from refdepth.render import Renderer, select_renderer
from refdepth.render.cpu import CpuRenderer
from refdepth.render.selection import nvdiffrast_installed

VIEWS = 4
FLOOR_BYTES = 76
"""Bytes per pixel and view that any such step moves, in float32: colour written (12), id and depth
written (8); colour, target and id read by the loss (28) and its gradient written (12); gradient
and id read by the backward pass (16). Not counted: vertices, the texture, what the optimiser keeps,
and all that an implementation adds."""
CASES = [(640, 480, 4), (640, 480, 2), (960, 640, 4), (1920, 1280, 4)]

Draw = Callable[["Scene", torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """A reference view's mesh and the cameras that look at it."""

    width: int
    height: int
    rays: torch.Tensor
    """Homogeneous reference pixels (V, 3)."""
    directions: torch.Tensor
    """Those rays as the views see them, A ray (B, V, 3)."""
    depth: torch.Tensor
    triangles: torch.Tensor
    uv: torch.Tensor
    texture: torch.Tensor
    A: torch.Tensor
    """K R inv(K) of each view (B, 3, 3)."""
    b: torch.Tensor
    """K t of each view (B, 3)."""
    K: torch.Tensor
    target: torch.Tensor
    """Colours to reach (B, H, W, 3)."""

    def project(self, depth: torch.Tensor) -> torch.Tensor:
        """Homogeneous pixels (B, V, 3) of the mesh at `depth` (V,)."""
        return self.directions * depth[:, None] + self.b[:, None]

    def to(self, device: torch.device) -> Scene:
        values = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value
            for name, value in vars(self).items()
        }
        return Scene(**values)


def make_scene(width: int, height: int, stride: int) -> Scene:
    """Waves with a box in front, seen from four sides."""
    y, x = np.mgrid[:height, :width]
    depth = 3 + 0.4 * np.sin(7 * x / width) + 0.3 * np.cos(5 * y / height)
    depth[height // 4 : height // 2, width // 3 : width // 2] -= 1
    mesh = grid_mesh(depth, stride, 1.06)
    K = np.array([[0.9 * width, 0, width / 2], [0, 0.9 * width, height / 2], [0, 0, 1]])
    A, b = [], []
    for view in range(VIEWS):
        angle = 0.05 * (view - 1.5)
        c, s = np.cos(angle), np.sin(angle)
        R = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        A.append(K @ R @ np.linalg.inv(K))
        b.append(K @ [-3.0 * s + 0.1 * (view - 1.5), 0.05 * view, 0.1])
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(0, 1, (1, 3, height // 8, width // 8)))
    texture = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    rays = torch.from_numpy(np.c_[mesh.vertices_px, np.ones(len(mesh.depth))]).float()
    turns = torch.tensor(np.stack(A)).float()
    scene = Scene(
        width=width,
        height=height,
        rays=rays,
        directions=rays @ turns.transpose(1, 2),
        depth=torch.from_numpy(mesh.depth),
        triangles=torch.from_numpy(mesh.triangles),
        uv=torch.from_numpy(mesh.vertices_px),
        texture=texture[0].permute(1, 2, 0).contiguous().float(),
        A=turns,
        b=torch.tensor(np.stack(b)).float(),
        K=torch.tensor(K).float(),
        target=torch.zeros(VIEWS, height, width, 3),
    )
    color, _ = render_with(CpuRenderer())(scene, scene.depth, scene.project(scene.depth))
    return Scene(**{**vars(scene), "target": color})


def render_with(renderer: Renderer) -> Draw:
    """One of refdepth's renderers."""

    def draw(scene: Scene, _: torch.Tensor, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        out = renderer.render(
            q,
            scene.triangles,
            uv=scene.uv,
            texture=scene.texture,
            height=scene.height,
            width=scene.width,
        )
        return out.color, out.coverage

    return draw


def shade_in_torch(
    scene: Scene, q: torch.Tensor, ids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Barycentrics, texture coordinates and colours as differentiable tensor operations."""
    covered = ids > 0
    corner = scene.triangles.index_select(0, (ids.flatten() - 1).clamp(min=0).int()).long()
    view = torch.arange(VIEWS).repeat_interleave(scene.height * scene.width)
    row = corner + (view * q.shape[1])[:, None]
    vertex = q.reshape(-1, 3).index_select(0, row.flatten()).reshape(*ids.shape, 3, 3)
    # Relative to the pixel, which keeps float32 exact enough.
    x = vertex[..., 0] - (torch.arange(scene.width) + 0.5)[:, None] * vertex[..., 2]
    y = vertex[..., 1] - (torch.arange(scene.height) + 0.5)[:, None, None] * vertex[..., 2]
    a = x.roll(-1, -1) * y.roll(-2, -1) - y.roll(-1, -1) * x.roll(-2, -1)
    weights = a / torch.where(covered, a.sum(-1), 1)[..., None]
    corner_uv = scene.uv.index_select(0, corner.flatten()).reshape(*ids.shape, 3, 2)
    uv = (weights[..., None] * corner_uv).sum(-2)
    size = torch.tensor([scene.width, scene.height])
    color = torch.nn.functional.grid_sample(
        scene.texture.permute(2, 0, 1)[None].expand(VIEWS, -1, -1, -1),
        2 * uv / size - 1,
        align_corners=False,
        padding_mode="border",
    ).permute(0, 2, 3, 1)
    return torch.where(covered[..., None], color, 0), covered


def visibility_and_torch(
    scene: Scene, _: torch.Tensor, q: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Our visibility, the rest in torch."""
    seen = CpuRenderer().visibility(q, scene.triangles, scene.height, scene.width)
    return shade_in_torch(scene, q, seen.triangle_id)


def embree_and_torch() -> Draw:
    """Open3D's ray casting for visibility, the rest in torch."""
    import open3d as o3d

    def draw(
        scene: Scene, depth: torch.Tensor, q: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        K_inverse = torch.linalg.inv(scene.K)
        points = (scene.rays @ K_inverse.T) * depth.detach()[:, None]
        caster = o3d.t.geometry.RaycastingScene()
        caster.add_triangles(
            o3d.core.Tensor(points.numpy()), o3d.core.Tensor(scene.triangles.numpy().astype("u4"))
        )
        y, x = torch.meshgrid(
            torch.arange(scene.height) + 0.5, torch.arange(scene.width) + 0.5, indexing="ij"
        )
        pixel = torch.stack([x, y, torch.ones_like(x)], dim=-1)
        ids = torch.empty(VIEWS, scene.height, scene.width, dtype=torch.int64)
        for view in range(VIEWS):
            # q = K (R X + t), so the ray through p runs along (K R)^-1 p from -(K R)^-1 K t.
            inverse = torch.linalg.inv(scene.A[view] @ scene.K)
            origin = (-inverse @ scene.b[view]).expand_as(pixel)
            rays = torch.cat([origin, pixel @ inverse.T], dim=-1)
            hits = caster.cast_rays(o3d.core.Tensor(rays.numpy()))
            found = hits["primitive_ids"].numpy().astype(np.int64) + 1
            found[~np.isfinite(hits["t_hit"].numpy())] = 0
            ids[view] = torch.from_numpy(found)
        return shade_in_torch(scene, q, ids)

    return draw


def torch_loss(color: torch.Tensor, target: torch.Tensor, covered: torch.Tensor) -> torch.Tensor:
    """Mean absolute error over the covered pixels, in tensor operations."""
    error = torch.nn.functional.l1_loss(color, target, reduction="none")
    # Uncovered pixels have no colour and no gradient: they only need to stay out of the mean.
    return (error * covered[..., None]).sum() / (3 * covered.sum())


def stepper(scene: Scene, draw: Draw, loss_of: Loss = torch_loss) -> Callable[[], None]:
    """One optimisation step of `scene`, drawn by `draw`."""
    depth = (scene.depth * 1.01).requires_grad_()
    optimiser = torch.optim.Adam([depth], lr=1e-5)

    def step() -> None:
        optimiser.zero_grad()
        color, covered = draw(scene, depth, scene.project(depth))
        loss_of(color, scene.target, covered).backward()
        optimiser.step()

    return step


def floor_stepper(scene: Scene) -> Callable[[], None]:
    """Copies half of `FLOOR_BYTES` per pixel, so that reads and writes together make them up, with
    all of torch's threads, between arrays that are already there."""
    pixels = scene.height * scene.width * VIEWS
    source = torch.ones(pixels * FLOOR_BYTES // 2 // 4)
    sink = torch.empty_like(source)

    def copy() -> None:
        sink.copy_(source)

    return copy


def time_in_turn(
    steps: dict[str, Callable[[], None]], iterations: int, *, synchronise: bool = False
) -> dict[str, float]:
    """Median milliseconds of each step."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for iteration in range(iterations + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if synchronise:
                torch.cuda.synchronize()
            # The first step compiles and takes its memory.
            if iteration:
                seconds[name].append(time.perf_counter() - start)
    return {name: 1e3 * float(np.median(values)) for name, values in seconds.items()}


def measure_case(width: int, height: int, stride: int, iterations: int) -> dict[str, Any]:
    """All ways on one scene."""
    print(f"{width}x{height}, stride {stride} …", file=sys.stderr)
    scene = make_scene(width, height, stride)
    steps = {
        "memory floor": floor_stepper(scene),
        "refdepth fused": stepper(scene, render_with(CpuRenderer()), mean_difference),
        "refdepth modular": stepper(scene, render_with(CpuRenderer(fused=False)), mean_difference),
        "numba visibility + torch": stepper(scene, visibility_and_torch),
        "Embree + torch": stepper(scene, embree_and_torch()),
    }
    times = time_in_turn(steps, iterations)
    if cuda_available() and nvdiffrast_installed():
        renderer = select_renderer("nvdiffrast")
        on_device = stepper(scene.to(renderer.device), render_with(renderer))
        times |= time_in_turn({"nvdiffrast": on_device}, iterations, synchronise=True)
    fused = times["refdepth fused"]
    return {
        "width": width,
        "height": height,
        "stride": stride,
        "triangles": len(scene.triangles),
        "milliseconds": times,
        "times_faster_than_embree": times["Embree + torch"] / fused,
        "times_memory_floor": fused / times["memory floor"],
    }


def measure_parts(iterations: int) -> dict[str, float]:
    """Where the time of a fused step goes (640x480, stride 4), milliseconds."""
    scene = make_scene(640, 480, 4)
    q = scene.project(scene.depth).requires_grad_()
    draw = render_with(CpuRenderer())
    color, _ = draw(scene, scene.depth, q)
    grad = torch.ones_like(color)

    def forward() -> None:
        draw(scene, scene.depth, q)

    def visibility() -> None:
        CpuRenderer().visibility(q, scene.triangles, scene.height, scene.width)

    def backward() -> None:
        torch.autograd.grad(color, q, grad, retain_graph=True)

    steps = {"visibility alone": visibility, "forward": forward, "backward": backward}
    steps["whole step"] = stepper(scene, draw, mean_difference)
    times = time_in_turn(steps, iterations)
    times["loss, projection, Adam"] = times["whole step"] - times["forward"] - times["backward"]
    return times


def measure_threads(iterations: int) -> dict[str, float]:
    """The fused step and the floor (640x480, stride 4) on one thread and on two, milliseconds."""
    scene = make_scene(640, 480, 4)
    steps = {
        "step": stepper(scene, render_with(CpuRenderer()), mean_difference),
        "memory floor": floor_stepper(scene),
    }
    before = numba.get_num_threads(), torch.get_num_threads()
    times = {}
    try:
        for threads in (1, 2):
            if threads <= before[0]:
                numba.set_num_threads(threads)
                torch.set_num_threads(threads)
                for name, value in time_in_turn(steps, iterations).items():
                    times[f"{name}, {threads} thread{'s' * (threads > 1)}"] = value
    finally:
        numba.set_num_threads(before[0])
        torch.set_num_threads(before[1])
    return times


def measure_compilation() -> dict[str, float]:
    """Seconds of the first forward and backward pass in a fresh process, cold and cached."""
    code = (
        "import time, torch\n"
        "from refdepth.render import select_renderer\n"
        "renderer = select_renderer('cpu')\n"
        "q = torch.tensor([[[0., 0, 1], [9, 0, 1], [0, 9, 1]]], requires_grad=True)\n"
        "start = time.perf_counter()\n"
        "out = renderer.render(q, torch.tensor([[0, 1, 2]], dtype=torch.int32),\n"
        "    uv=torch.zeros(3, 2), texture=torch.zeros(2, 2, 3), height=8, width=8)\n"
        "out.color.sum().backward()\n"
        "print(time.perf_counter() - start)\n"
    )
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        seconds = [
            float(subprocess.check_output([sys.executable, "-c", code], env=environment))
            for _ in range(2)
        ]
    return {"cold": seconds[0], "cached": seconds[1]}


def print_table(report: dict[str, Any]) -> None:
    names = list(report["cases"][0]["milliseconds"])
    heads = [f"{c['width']}x{c['height']}/{c['stride']}" for c in report["cases"]]
    print("| ms a step | " + " | ".join(heads) + " |")
    print("|---" * (len(heads) + 1) + "|")
    for name in names:
        cells = [f"{case['milliseconds'][name]:.1f}" for case in report["cases"]]
        print(f"| {name} | " + " | ".join(cells) + " |")
    for key in ("times_faster_than_embree", "times_memory_floor"):
        cells = [f"{case[key]:.1f}" for case in report["cases"]]
        print(f"| {key.replace('_', ' ')} | " + " | ".join(cells) + " |")
    for key in ("parts_ms", "threads_ms", "first_step_seconds"):
        values = "; ".join(f"{name} {value:.2f}" for name, value in report[key].items())
        print(f"\n{key.replace('_', ' ')}: {values}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--iterations", type=int, default=20, help="timed steps of each way")
    parser.add_argument("--quick", action="store_true", help="the two small cases only")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results" / "renderer.json"
    )
    arguments = parser.parse_args()
    cases = CASES[:2] if arguments.quick else CASES
    report = {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "threads": numba.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numba": numba.__version__,
        },
        "iterations": arguments.iterations,
        "cases": [measure_case(*case, arguments.iterations) for case in cases],
        "parts_ms": measure_parts(arguments.iterations),
        "threads_ms": measure_threads(arguments.iterations),
        "first_step_seconds": measure_compilation(),
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")
    print_table(report)


if __name__ == "__main__":
    main()
