"""Large photos: seconds, memory and disk of every stage after the cameras are known.

A synthetic room with given cameras and simulated maps at a network's resolution, as phone photos
(JPEG, sensor noise, every other one turned by EXIF). Each stage is a run of its own; memory is that
of all its processes together.

    python benchmarks/large_photos.py [--views 23] [--sizes 4032x3024 1632x1224] [--workers 2]
        [--max-memory GB] [--old REVISION_OR_FOLDER] [--folder DIR] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine
from PIL import Image
from stage_runs import COLUMNS, run_stages, table_rows
from versions import ROOT, Version, old_version

from refdepth.evaluation import Table
from refdepth.io.colmap import to_reconstruction
from refdepth.synthetic import make_scene
from refdepth.types.camera import PinholeCamera
from refdepth.types.scene import Scene, View

RENDERED_PIXELS = 1_400_000
"""Larger photos are enlarged from about so many."""
NOISE = 2.0
"""Of 255: sensor noise of the enlarged photos."""
MAP_PIXELS = 518 * 686
WARM_UP = 6, 640, 480
"""Photos and their size: what compiles the kernels before any size is measured."""
_EXIF_ORIENTATION = 0x0112


def make_inputs(folder: Path, views: int, width: int, height: int) -> Path:
    """Photos, a COLMAP model and maps in a folder inside `folder`."""
    inputs = folder / f"phone-{views}-{width}x{height}"
    if inputs.exists():
        return inputs
    half = folder / "half"
    shutil.rmtree(half, ignore_errors=True)
    for name in ("maps", "model"):
        (half / name).mkdir(parents=True)
    by = max(1, round((width * height / RENDERED_PIXELS) ** 0.5))
    made = make_scene("room", 0, views, width // by, height // by)
    scene = made.to_scene(half / "pictures")
    for number, view in enumerate(scene.views):
        stem = Path(view.name).stem
        photo = half / "photos" / f"{stem}.jpg"
        photo.parent.mkdir(exist_ok=True)
        _save_as_a_phone(view.image_path, photo, by, turned=bool(number % 2))
        prior = made.simulated_prior(number).values
        shrink = max(1, round((prior.size / MAP_PIXELS) ** 0.5))
        np.save(half / "maps" / f"{stem}.npy", prior[shrink // 2 :: shrink, shrink // 2 :: shrink])
    shutil.rmtree(half / "pictures")
    model = to_reconstruction(Scene([_enlarged(view, by) for view in scene.views], scene.points))
    for image in model.images.values():
        image.name = f"{Path(image.name).stem}.jpg"
    model.write(str(half / "model"))
    half.rename(inputs)
    return inputs


def _enlarged(view: View, by: int) -> View:
    K = view.camera.K.copy()
    K[:2] *= by
    camera = PinholeCamera(K=K, width=by * view.camera.width, height=by * view.camera.height)
    return replace(view, camera=camera, point_xy=by * view.point_xy)


def _save_as_a_phone(picture: Path, photo: Path, by: int, *, turned: bool) -> None:
    with Image.open(picture) as small:
        size = small.width * by, small.height * by
        pixels = np.asarray(small.convert("RGB").resize(size, Image.Resampling.BICUBIC), np.float32)
    noise = np.random.default_rng(0).normal(scale=NOISE, size=pixels.shape)
    stored = Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))
    exif = Image.Exif()
    if turned:
        exif[_EXIF_ORIENTATION] = 6
        stored = stored.transpose(Image.Transpose.ROTATE_90)
    stored.save(photo, quality=90, exif=exif)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--views", type=int, default=23)
    parser.add_argument("--sizes", nargs="+", default=["4032x3024", "1632x1224"])
    parser.add_argument("--workers", default="2")
    parser.add_argument("--max-memory", type=float)
    parser.add_argument("--old")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="large-photos-")))
        if args.folder is not None:
            args.folder.mkdir(parents=True, exist_ok=True)
        roots = {"new": ROOT}
        if args.old:
            roots["old"] = stack.enter_context(old_version(args.old, place))
        versions = [
            Version(name=name, root=root, work=place / name, kernels=place / f"{name}-kernels")
            for name, root in roots.items()
        ]
        for version in versions:
            version.work.mkdir()
            run_stages(version, make_inputs(place, *WARM_UP), args.workers, args.max_memory)
        results: dict[str, Any] = {}
        rows: list[tuple[str, ...]] = []
        for size in args.sizes:
            width, height = map(int, size.split("x"))
            inputs = make_inputs(args.folder or place, args.views, width, height)
            for version in versions:
                found = run_stages(version, inputs, args.workers, args.max_memory)
                results[f"{version.name} {size}"] = found
                rows += [
                    (version.name, size, *cells)
                    for cells in table_rows(found, args.views, width * height)
                ]
        title = f"{args.views} photos, {args.workers} workers"
        print(Table(title=title, columns=("version", "size", *COLUMNS), rows=tuple(rows)).to_text())
        if args.json is not None:
            told = {"machine": machine(), "arguments": vars(args), "results": results}
            args.json.write_text(json.dumps(told, indent=1, default=str))


if __name__ == "__main__":
    main()
