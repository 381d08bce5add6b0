"""How a run grows with its photos: seconds, memory and disk of every stage for 100 to 3,000 views.

A street of houses that repeat (`refdepth.synthetic.street`), small photos, given cameras and
simulated maps. What grows faster than the views shows in the figures a view; compare them within
one run.

    python benchmarks/scale.py [--views 100 300 1000] [--size 160x120] [--workers 2]
        [--max-memory GB] [--folder DIR] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine
from PIL import Image
from stage_runs import COLUMNS, run_stages, table_rows
from versions import ROOT, Version

from refdepth.evaluation import Table
from refdepth.io.colmap import to_reconstruction
from refdepth.synthetic.sparse import sample_scene
from refdepth.synthetic.street import Street, make_street
from refdepth.types.scene import Scene, SparsePoints, View

AT_A_TIME = 50
"""Photos of the walk, one after the other, that share SfM points."""
POINTS_A_VIEW = 60
NOISE_PX = 0.3


def make_inputs(folder: Path, views: int, width: int, height: int) -> Path:
    """Photos, a COLMAP model and maps in a folder inside `folder`."""
    inputs = folder / f"street-{views}-{width}x{height}"
    if inputs.exists():
        return inputs
    half = folder / "half"
    shutil.rmtree(half, ignore_errors=True)
    for name in ("photos", "maps", "model"):
        (half / name).mkdir(parents=True)
    street = make_street(views, width=width, height=height)
    parts = [
        _make_part(street, range(start, min(start + AT_A_TIME, views)), half)
        for start in range(0, views, AT_A_TIME)
    ]
    to_reconstruction(_joined(parts)).write(str(half / "model"))
    half.rename(inputs)
    return inputs


def _make_part(street: Street, numbers: range, folder: Path) -> Scene:
    """Writes some photos and their maps; their cameras and points."""
    rng = np.random.default_rng([street.seed, numbers.start])
    made = [street.view(number) for number in numbers]
    for view in made:
        pixels = np.round(view.image * 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / view.name, quality=95, subsampling=0)
        far = np.linspace(-1, 1, view.camera.width) * rng.normal(scale=0.05)
        inverse = (1 / view.depth * np.exp(far)).astype(np.float32)
        np.save(folder / "maps" / f"{view.name}.npy", 2 * inverse + np.float32(0.1))
    return sample_scene(made, folder / "photos", POINTS_A_VIEW, NOISE_PX, rng)


def _joined(parts: list[Scene]) -> Scene:
    """The parts, which share no point, as one scene."""
    views, start = [], 0
    for part in parts:
        for view in part.views:
            index = view.point_index + start
            kept = {**vars(view), "name": Path(view.name).with_suffix(".jpg").name}
            views.append(View(**{**kept, "point_index": index}))
        start += len(part.points)
    names = ("xyz", "rgb", "error_px", "track_length")
    points = {n: np.concatenate([getattr(part.points, n) for part in parts]) for n in names}
    return Scene(views, SparsePoints(**points))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--views", nargs="+", type=int, default=[100, 300, 1000])
    parser.add_argument("--size", default="160x120")
    parser.add_argument("--workers", default="2")
    parser.add_argument("--max-memory", type=float)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scale-")))
        if args.folder is not None:
            args.folder.mkdir(parents=True, exist_ok=True)
        version = Version(name="new", root=ROOT, work=place / "new", kernels=place / "kernels")
        version.work.mkdir()
        results: dict[str, Any] = {}
        rows: list[tuple[str, ...]] = []
        for views in args.views:
            inputs = make_inputs(args.folder or place, views, width, height)
            found = results[str(views)] = run_stages(version, inputs, args.workers, args.max_memory)
            rows += [(str(views), *cells) for cells in table_rows(found, views, width * height)]
        title = f"Photos of {args.size}, {args.workers} workers"
        print(Table(title=title, columns=("views", *COLUMNS), rows=tuple(rows)).to_text())
        if args.json is not None:
            told = {"machine": machine(), "arguments": vars(args), "results": results}
            args.json.write_text(json.dumps(told, indent=1, default=str))


if __name__ == "__main__":
    main()
