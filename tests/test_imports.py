"""What importing costs and changes, seen from fresh processes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "open3d", "transformers", "pycolmap", "numba", "scipy", "matplotlib")

REPORT = """
import json, os, sys
before = dict(os.environ)
{statement}
changed = [k for k in os.environ if os.environ[k] != before.get(k)]
print(json.dumps({{"modules": sorted(sys.modules), "changed": changed}}))
"""


def after(statement: str) -> dict[str, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", REPORT.format(statement=statement)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("statement", ["import refdepth", "import refdepth.cli.main"])
def test_nothing_heavy_is_imported_early(statement: str) -> None:
    loaded = set(after(statement)["modules"])
    assert loaded.isdisjoint(HEAVY)


def test_only_what_needs_it_imports_open3d() -> None:
    """Decimation and the TSDF mesh, when they are called."""
    rooms = ("refdepth.fusion", "refdepth.io.ply", "refdepth.io.glb", "refdepth.pipeline.exports")
    assert "open3d" not in after(f"import {', '.join(rooms)}")["modules"]
    users = {
        path.relative_to(ROOT).as_posix()
        for folder in ("refdepth", "pipeline", "cli")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if re.search(r"^\s*(import|from) open3d", path.read_text(), re.MULTILINE)
    }
    assert users == {"refdepth/fusion/tsdf.py", "refdepth/refine/mesh/surface.py"}


@pytest.mark.parametrize(
    "statement", ["import refdepth", "import refdepth.refine, refdepth.render"]
)
def test_importing_changes_no_environment_variable(statement: str) -> None:
    assert after(statement)["changed"] == []


def test_importing_changes_no_thread_count() -> None:
    statement = (
        "import torch, numba; a = torch.get_num_threads(), numba.get_num_threads(); "
        "import refdepth.refine, refdepth.render, refdepth.fusion, refdepth.synthetic; "
        "assert a == (torch.get_num_threads(), numba.get_num_threads())"
    )
    after(statement)


def test_pycolmap_is_imported_through_one_door_only() -> None:
    """Importing it before Pillow corrupts the heap when a PNG is saved."""
    offenders = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in ("refdepth", "pipeline", "cli", "benchmarks", "examples")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if line.strip().startswith(("import pycolmap", "from pycolmap"))
        and path.name != "_pycolmap.py"
    ]
    assert offenders == []


def test_a_png_can_be_saved_after_pycolmap_came_in_first(tmp_path: Path) -> None:
    statement = (
        "from refdepth._pycolmap import pycolmap; import numpy as np; from PIL import Image; "
        "pycolmap.Reconstruction(); "
        f"[Image.fromarray(np.full((99, 99, 3), i, np.uint8)).save(r'{tmp_path}/x.png')"
        " for i in range(50)]"
    )
    modules = after(statement)["modules"]
    assert "PIL.PngImagePlugin" in modules
    assert "pycolmap" in modules


def test_imports_point_one_way() -> None:
    """cli -> pipeline -> refdepth."""
    forbidden = {
        "refdepth": ("refdepth.pipeline", "refdepth.cli"),
        "pipeline": ("refdepth.cli",),
    }
    offenders = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for folder, banned in forbidden.items()
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line in path.read_text().splitlines()
        for name in banned
        if line.strip().startswith((f"import {name}", f"from {name}"))
    ]
    assert offenders == []
