"""The table of exports in docs/formats.md against what is written."""

from __future__ import annotations

import re
import shutil
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from PIL import Image

from refdepth.io.depth_sets import DepthFile
from refdepth.pipeline.export_options import CloudFile, ExportFormat, ExportOptions
from refdepth.pipeline.exports import export
from refdepth.pipeline.workspace import Workspace

PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
COLUMNS = ["file", "quantity", "unit", "grid", "unknown", "who reads it"]


def rows() -> list[list[str]]:
    """The table's cells."""
    heading = "| " + " | ".join(COLUMNS) + " |"
    assert PAGE.count(heading) == 1
    lines = PAGE.partition(heading)[2].strip().partition("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def files_of(cell: str) -> list[str]:
    """Glob patterns of a cell: `FORMAT/FILE`, more files of its folder, or files `of` formats."""
    named = re.findall(r"`([^`]+)`", cell)
    formats = [name for name in named if name in list(ExportFormat)]
    if formats:
        return [f"{kind}/{name}" for name in named if name not in formats for kind in formats]
    folder = named[0].rpartition("/")[0]
    return [name if "/" in name else f"{folder}/{name}" for name in named]


@pytest.fixture(scope="module")
def written(finished_root: Path, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Every file of every export."""
    folder = tmp_path_factory.mktemp("everything")
    root = Path(shutil.copytree(finished_root, folder / "out"))
    masks = root / "sfm" / "undistorted" / "masks"
    masks.mkdir()
    for photo in (root / "sfm" / "undistorted" / "images").iterdir():
        with Image.open(photo) as picture:
            mask = np.full((picture.height, picture.width), 255, np.uint8)
        mask[:10] = 0
        Image.fromarray(mask).save(masks / f"{photo.name}.png")
    options = ExportOptions(
        depth_files=tuple(DepthFile),
        cloud_files=tuple(k for k in CloudFile if k is not CloudFile.E57),
    )
    export(Workspace(root), tuple(ExportFormat), options=options)
    base = root / "export"
    return {path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file()}


def test_every_row_says_everything() -> None:
    assert {len(row) for row in rows()} == {len(COLUMNS)}
    for file, quantity, _, _, _, reader in rows():
        assert file
        assert quantity
        assert reader


def test_every_file_of_data_has_a_row_and_every_row_its_files(written: set[str]) -> None:
    patterns = {pattern for row in rows() for pattern in files_of(row[0])} - {"cloud/cloud.e57"}
    found = {name: {p for p in patterns if fits(name, p)} for name in written}
    without = {name for name, rows_of in found.items() if is_data(name) and not rows_of}
    assert not without
    assert set().union(*found.values()) == patterns


def fits(name: str, pattern: str) -> bool:
    return name.startswith(pattern) if pattern[-1] == "/" else PurePosixPath(name).match(pattern)


def is_data(name: str) -> bool:
    """Whether a file is no photo, no COLMAP model and says nothing but about others."""
    path = PurePosixPath(name)
    about = {".json", ".cfg"} if "stereo" in path.parts else {".json", ".cfg", ".bin"}
    return "images" not in path.parts and path.suffix not in about
