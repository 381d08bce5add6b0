"""Placing cameras from matched photos: which mapper, with how much to start from, and going on
with a large set after a kill."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from refdepth.sfm.database import match_mark
from refdepth.sfm.native import Cancelled, Progress, run_step
from refdepth.sfm.settings import Mapper, SfmSettings

INCREMENTAL_LIMIT = 500
"""Most photos for which `auto` places one camera after the other."""
SNAPSHOTS_FROM = 301
"""Photos from which the incremental mapper leaves snapshots to go on from. A mapping that went on
from one has other last digits, so that smaller sets begin anew."""
_SNAPSHOT_PHOTOS = 50
"""Photos placed between two snapshots."""
_INIT_INLIERS = 100


def place_cameras(
    database: Path,
    images: Path,
    output: Path,
    count: int,
    settings: SfmSettings,
    *,
    seed: int,
    threads: int,
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> list[dict[str, Any]]:
    """The models that `count` matched photos in `database` lead to, each in a folder of `output`;
    none where no pair of photos can be started from."""
    common: dict[str, Any] = {
        "label": "placing cameras",
        "database": database,
        "images": images,
        "output": output,
        "refine_principal_point": settings.refine_principal_point,
        "seed": seed,
        "threads": 1 if settings.deterministic else threads,
        "progress": progress,
        "cancelled": cancelled,
    }
    mapper = settings.mapper
    if mapper == Mapper.AUTO:
        mapper = Mapper.INCREMENTAL if count <= INCREMENTAL_LIMIT else Mapper.GLOBAL
    snapshots = output.with_name("snapshots")
    # A second try with less to start from, for small pictures and weak texture.
    for inliers in (_INIT_INLIERS, _INIT_INLIERS // 4):
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir(parents=True)
        if mapper == Mapper.GLOBAL:
            return list(run_step("map_globally", **common))
        options: dict[str, Any] = {
            "min_model_size": min(count, 3),
            "min_triangulation_angle_deg": settings.min_triangulation_angle_deg,
            "min_inliers": inliers,
        }
        going_on: dict[str, Any] = {}
        if count >= SNAPSHOTS_FROM:
            mark = [match_mark(database), seed, settings.deterministic, options]
            going_on = {
                "begin": _snapshot_for(snapshots, json.dumps(mark)),
                "snapshots": snapshots,
                "snapshot_photos": _SNAPSHOT_PHOTOS,
            }
        models: list[dict[str, Any]] = run_step(
            "map_incrementally", count=count, **options, **going_on, **common
        )
        shutil.rmtree(snapshots, ignore_errors=True)
        if models:
            return models
    return []


def _snapshot_for(folder: Path, mark: str) -> Path | None:
    """The snapshot in `folder` to go on from: the largest, but never the newest, which a kill may
    have torn. Those that another mapping has left are removed."""
    stored = folder / "mark.json"
    if not stored.is_file() or stored.read_text() != mark:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        stored.write_text(mark)
        return None
    found = sorted(path for path in folder.iterdir() if path.is_dir())
    for newest in found[-1:]:
        shutil.rmtree(newest)
    return max(found[:-1], key=lambda path: (_size(path), path.name), default=None)


def _size(snapshot: Path) -> int:
    return sum(path.stat().st_size for path in snapshot.iterdir())
