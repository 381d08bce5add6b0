"""Who may import whom, read from the source; what importing costs and changes, seen from fresh
processes."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

COMPILING = {"compiled", "kernel_cache", "signature_text", "compilation", "threads"}
COMMON = {
    "errors",
    "settings",
    "cores",
    "arrays",
    "precision",
    "devices",
    "device_memory",
    "writing",
    *COMPILING,
}
"""What every room may import."""
ROOMS: dict[str, set[str]] = {
    "types": set(),
    "geometry": {"types", "_pycolmap"},
    "ingest": set(),
    "io": {"types", "geometry", "_pycolmap"},
    "render": set(),
    "matching": {"types", "geometry"},
    "sfm": {"types", "ingest", "_pycolmap"},
    "priors": {"types", "geometry", "ingest", "io", "matching"},
    "refine.mesh": {"types", "geometry", "matching", "render"},
    "refine.paper": {"types", "geometry", "render", "refine.mesh"},
    "refine": {"types", "geometry", "matching", "render", "refine.mesh", "refine.paper"},
    "fusion": {"types", "geometry", "io", "matching"},
    "metric": {"types", "ingest", "evaluation"},
    "evaluation": {"types", "geometry", "ingest", "io", "_pycolmap"},
    "synthetic": {"types", "io"},
    "api": {"types", "geometry", "io", "matching", "priors", "render", "refine"},
}
"""What each room of the method may import beyond itself and `COMMON`."""
HEAVY = ("torch", "open3d", "transformers", "pycolmap", "numba", "scipy", "matplotlib", "ray")

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


@cache
def modules() -> dict[str, Path]:
    """Every module of refdepth, by its name."""
    found = {}
    for folder in ("refdepth", "pipeline", "cli"):
        for path in sorted((ROOT / folder).rglob("*.py")):  # which does not follow links
            *parents, stem = path.relative_to(ROOT).with_suffix("").parts
            parts = [*parents, stem] if stem != "__init__" else parents
            found[".".join(parts if folder == "refdepth" else ["refdepth", *parts])] = path
    return found


def names_imported(path: Path) -> Iterator[str]:
    """What the import statements of a file name, wherever they stand: at the top, inside functions,
    under TYPE_CHECKING (a type's direction is a direction, too)."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: name the whole module"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def imports() -> frozenset[tuple[str, str]]:
    """(importing module, imported module) within refdepth."""
    found = set()
    for module, path in modules().items():
        for name in names_imported(path):
            while name and name not in modules():
                name = name.rpartition(".")[0]
            if name and name != module:
                found.add((module, name))
    return frozenset(found)


def room(module: str) -> str:
    """The folder of a module below refdepth, or the module itself where it lies in none; empty for
    refdepth/__init__.py, whose public list names what it likes."""
    parts = module.split(".")[1:]
    return ".".join(parts[:2] if ".".join(parts[:2]) in ROOMS else parts[:1])


def lines(offenders: set[tuple[str, str]]) -> list[str]:
    return sorted(f"{importing} -> {imported}" for importing, imported in offenders)


def test_imports_point_one_way() -> None:
    """cli -> pipeline -> refdepth."""
    rank = {"pipeline": 1, "cli": 2}
    offenders = {
        (importing, imported)
        for importing, imported in imports()
        if room(importing) and rank.get(room(importing), 0) < rank.get(room(imported), 0)
    }
    assert lines(offenders) == []


def test_rooms_of_the_method_import_only_what_the_table_allows() -> None:
    offenders = {
        (importing, imported)
        for importing, imported in imports()
        if room(importing) not in ("", "pipeline", "cli")
        and room(imported) not in {room(importing), *COMMON, *ROOMS.get(room(importing), set())}
    }
    assert lines(offenders) == []


def test_the_table_of_rooms_has_no_circle() -> None:
    tuple(TopologicalSorter(ROOMS).static_order())


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {module: set() for module in modules()}
    for importing, imported in imports():
        graph[importing].add(imported)
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


@pytest.mark.parametrize(
    "statement", ["import refdepth", "import refdepth.cli.main", "import refdepth.pipeline.work"]
)
def test_nothing_heavy_is_imported_early(statement: str) -> None:
    loaded = set(after(statement)["modules"])
    assert loaded.isdisjoint(HEAVY)


def test_ray_is_imported_when_a_cluster_is_asked_for() -> None:
    assert "ray" not in after("import refdepth.pipeline.cluster")["modules"]


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
    paths = [*modules().values()]
    for folder in ("benchmarks", "examples"):
        paths += sorted((ROOT / folder).rglob("*.py"))
    offenders = [
        str(path.relative_to(ROOT))
        for path in paths
        if path.name != "_pycolmap.py"
        and any(name.split(".")[0] == "pycolmap" for name in names_imported(path))
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
