"""One run stage by stage, each a command of its own: seconds, cores, memory and disk."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from process_tree import run_measured
from versions import COMMAND, Version

STAGES = ("prepare", "sfm", "depth", "scale", "refine", "fuse")
COLUMNS = ("stage", "seconds", "core s a view", "cores", "MiB", "bytes a pixel")


def run_stages(
    version: Version, inputs: Path, workers: str, max_memory_gb: float | None
) -> dict[str, dict[str, Any]]:
    """Runs all stages on `inputs` (folders `photos`, `model` and `maps`, which hold inverse depth)
    in a workspace that goes afterwards."""
    workspace = version.work / f"out-{inputs.name}"
    shutil.rmtree(workspace, ignore_errors=True)
    given = [str(inputs / "photos"), str(workspace), "--model", str(inputs / "model")]
    given += ["--depth-maps", str(inputs / "maps"), "--depth-kind", "inverse_affine"]
    if max_memory_gb is not None:  # which the workspace keeps for the stages to come
        given += ["--max-memory", str(max_memory_gb)]
    found: dict[str, dict[str, Any]] = {}
    for stage in STAGES:
        command = ["stage", stage, "-w", str(workspace), "--workers", workers]
        if stage == "prepare":
            command = ["reconstruct", *given, "--until", "prepare", "--workers", workers]
        print(f"{version.name}: {inputs.name}: {stage} …", file=sys.stderr)
        said = version.work / "said.txt"
        measured = run_measured(
            [*COMMAND, *command],
            environment=version.environment(version.kernels),
            folder=version.work,
            said=said,
            spin=False,
        )
        if measured.code:
            sys.exit(f"{version.name}: {stage} failed:\n{said.read_text(errors='replace')}")
        size = sum(p.stat().st_size for p in (workspace / stage).rglob("*") if p.is_file())
        found[stage] = {
            "seconds": measured.seconds,
            "cores": measured.cores,
            "pss_mb": measured.pss_mb,
            "bytes": size,
            "others": measured.others,
        }
    shutil.rmtree(workspace)
    return found


def table_rows(
    found: Mapping[str, Mapping[str, Any]], views: int, pixels: int
) -> list[tuple[str, ...]]:
    """A row of cells a stage, under `COLUMNS`; `pixels` are those of a photo."""
    return [
        (
            stage,
            f"{row['seconds']:.1f}",
            f"{row['seconds'] * row['cores'] / views:.2f}",
            f"{row['cores']:.2f}",
            f"{row['pss_mb'] or 0:.0f}",
            f"{row['bytes'] / (views * pixels):.2f}",
        )
        for stage, row in found.items()
    ]
