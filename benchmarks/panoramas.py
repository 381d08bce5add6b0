"""How good 360 degree panoramas become: cameras, depth, and the seams between the faces.

Panoramas of the synthetic room, from photos to the fused cloud, with simulated maps of a monocular
network (or `--sweep`). Truth and result share one similarity, from the panoramas' centres.

A seam is measured at pixels on both sides of every edge of the cube, one pixel apart: how far their
distances from the centre differ, each taken from its own face. Beside it stands the same of both
pixels in one face (faces reach a little over the edge), and of the truth.

    python benchmarks/panoramas.py [--panoramas 12] [--width 1600] [--sweep] [--folder DIR]
                                   [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine
from numpy.typing import NDArray

from refdepth.evaluation import Table
from refdepth.evaluation.alignment import robust_sim3
from refdepth.geometry.photo_grid import sample_depth
from refdepth.ingest.panoramas import FACE_FROM_PANORAMA, Face, face_focal_px, face_size
from refdepth.pipeline.results import Results
from refdepth.pipeline.stages.prepare import read_table
from refdepth.pipeline.workspace import Workspace
from refdepth.synthetic import (
    PriorError,
    SyntheticPanorama,
    make_panoramas,
    simulate_prior,
    write_panoramas,
)
from refdepth.types.prior import PriorKind

Array = NDArray[np.float64]

NEAR = 0.03
"""Relative error of depth that counts as right."""
CLIPPED = 0.95
"""Edges are looked at this far towards the cube's corners, where three faces meet."""


def face_calibration(side: int) -> Array:
    """Calibration of a face."""
    focal = face_focal_px(side)
    return np.array([[focal, 0, side / 2], [0, focal, side / 2], [0, 0, 1]])


def make_inputs(folder: Path, panoramas: list[SyntheticPanorama], width: int) -> dict[str, Any]:
    """Photos and maps in `folder`; exact depth by the faces' names."""
    write_panoramas(panoramas, folder / "photos")
    side, truth = face_size(width, None), {}
    for number, panorama in enumerate(panoramas):
        stem = Path(panorama.name).stem
        (folder / "maps" / stem).mkdir(parents=True, exist_ok=True)
        for face, turn in FACE_FROM_PANORAMA.items():
            depth, surface = panorama.depth(face_calibration(side), turn.T, (side, side))
            rng = np.random.default_rng([number, list(Face).index(face)])
            prior = simulate_prior(depth, surface, PriorKind.INVERSE_AFFINE, PriorError.SMOOTH, rng)
            np.save(folder / "maps" / stem / f"{face}.npy", prior.values)
            truth[f"{stem}/{face}.jpg"] = depth
    return truth


def reconstruct(folder: Path, *, sweep: bool) -> tuple[Path, float]:
    """The output folder, and the seconds it took."""
    out = folder / ("out-sweep" if sweep else "out")
    command = [sys.executable, "-m", "refdepth.cli.main", "reconstruct", folder / "photos", out]
    if sweep:
        command += ["--depth-model", "sweep"]
    else:
        command += ["--depth-maps", folder / "maps", "--depth-kind", "inverse_affine"]
    started = time.perf_counter()
    subprocess.run(command, check=True)
    return out, time.perf_counter() - started


def edges() -> list[tuple[Face, Face]]:
    """The 12 pairs of faces that meet."""
    looks = {face: turn[2] for face, turn in FACE_FROM_PANORAMA.items()}
    return [(a, b) for a, b in combinations(Face, 2) if looks[a] @ looks[b] == 0]


def beside_edge(first: Face, second: Face, side: int) -> tuple[Array, Array]:
    """Rays (N, 3) in panorama axes along an edge, half a pixel on the first face's side of it and
    on the second's."""
    a, b = FACE_FROM_PANORAMA[first][2], FACE_FROM_PANORAMA[second][2]
    along = np.linspace(-CLIPPED, CLIPPED, side)[:, None] * np.cross(a, b)
    half = 0.5 / face_focal_px(side)
    return a + (1 - half) * b + along, (1 - half) * a + b + along


def distances(depth: NDArray[np.float32], face: Face, rays: Array) -> Array:
    """Distance from the centre (N,) along rays in panorama axes by a face's depth; NaN: unknown."""
    side = len(depth)
    local = rays @ FACE_FROM_PANORAMA[face].T
    local /= local[:, 2:]
    xy = side / 2 + face_focal_px(side) * local[:, :2]
    z = sample_depth(depth, xy).astype(np.float64)
    return np.where(z > 0, z, np.nan) * np.linalg.norm(local, axis=1)


def seams(maps: dict[Face, NDArray[np.float32]]) -> tuple[list[Array], list[Array]]:
    """Differences of log distance over the edges of a panorama: each side from its own face, and
    both from one."""
    across, within = [], []
    for first, second in edges():
        if first not in maps or second not in maps:
            continue
        here, there = beside_edge(first, second, len(maps[first]))
        near = {face: np.log(distances(maps[face], face, here)) for face in (first, second)}
        far = {face: np.log(distances(maps[face], face, there)) for face in (first, second)}
        across.append(np.abs(near[first] - far[second]))
        within += [np.abs(near[face] - far[face]) for face in (first, second)]
    return across, within


def middle(parts: list[Array]) -> dict[str, float]:
    """Median and 90th percentile, in percent of the distance."""
    values = np.concatenate(parts)
    values = 100 * values[np.isfinite(values)]
    return {"median": float(np.median(values)), "p90": float(np.percentile(values, 90))}


def judge(out: Path, panoramas: list[SyntheticPanorama], truth: dict[str, Any]) -> dict[str, Any]:
    """What became of the panoramas."""
    results = Results(Workspace(out))
    scene, rows = results.scene, {row.name: row for row in read_table(results.workspace)}
    own = {name: results.names.own(name) for name in scene.names}
    poses = {panorama.name: panorama.world_from_panorama for panorama in panoramas}
    fronts = [name for name in scene.names if rows[name].face.face is Face.FRONT]
    centers = np.array([scene[name].center for name in fronts])
    true = np.array([poses[rows[name].given][:3, 3] for name in fronts])
    placing = robust_sim3(centers, true, method="poses")
    errors: list[NDArray[np.float32]] = []
    maps: dict[str, dict[Face, NDArray[np.float32]]] = {}
    fused: dict[str, dict[Face, NDArray[np.float32]]] = {}
    for name in scene.names:
        row, depth = rows[name], results.refined(name).depth
        errors.append(np.abs(depth * placing.scale / truth[own[name]] - 1))
        maps.setdefault(row.given, {})[row.face.face] = depth
        fused.setdefault(row.given, {})[row.face.face] = results.fused(name).depth
    exact = [
        {face: truth[f"{Path(panorama.name).stem}/{face}.jpg"] for face in Face}
        for panorama in panoramas
    ]
    found: dict[str, Any] = {
        "placed": len(fronts),
        "center_error_mm": float(
            1000 * np.median(np.linalg.norm(placing.apply(centers) - true, axis=1))
        ),
        "within_3_percent": float(np.mean([(error < NEAR).mean() for error in errors])),
        "worst_face": float(min((error < NEAR).mean() for error in errors)),
        "median_error_percent": float(100 * np.median(np.stack(errors))),
        "agreed_share": float(
            np.mean([(depth > 0).mean() for faces in fused.values() for depth in faces.values()])
        ),
        "points": len(results.cloud()),
    }
    kinds = {"refined": maps.values(), "agreed": fused.values(), "true": exact}
    for what, panoramic in kinds.items():
        parts = [seams(faces) for faces in panoramic]
        found[f"{what} across"] = middle([one for across, _ in parts for one in across])
        found[f"{what} within"] = middle([one for _, within in parts for one in within])
    return found


def cells(value: Any) -> tuple[str, str]:
    """A figure in the table."""
    if isinstance(value, dict):
        return f"{value['median']:.3f}", f"{value['p90']:.3f}"
    return (f"{value:.3f}" if isinstance(value, float) else str(value)), ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--panoramas", type=int, default=12)
    parser.add_argument("--width", type=int, default=1600)
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="panoramas-")))
        folder = args.folder or place
        folder.mkdir(parents=True, exist_ok=True)
        panoramas = make_panoramas(args.panoramas, args.width)
        truth = make_inputs(folder, panoramas, args.width)
        out, seconds = reconstruct(folder, sweep=args.sweep)
        found = {**judge(out, panoramas, truth), "seconds": seconds}
    rows = tuple((what, *cells(value)) for what, value in found.items())
    title = f"{args.panoramas} panoramas of {args.width}x{args.width // 2}"
    print(Table(title=title, columns=("", "value or median %", "p90 %"), rows=rows).to_text())
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        told = {"machine": machine(), "arguments": vars(args), "results": found}
        args.json.write_text(json.dumps(told, indent=1, default=str))


if __name__ == "__main__":
    main()
