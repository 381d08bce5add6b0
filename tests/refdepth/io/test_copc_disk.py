"""A COPC file that finds no place on the disk, written by a process that has to live on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import refdepth.io.copc

pytest.importorskip("copclib")

_WRITE = """
import resource, sys
from pathlib import Path
import numpy as np
import refdepth.io.copc as copc
from refdepth.types.cloud import PointCloud

path = Path(sys.argv[1]) / "c.copc.laz"
rng, count = np.random.default_rng(0), 8000
cloud = PointCloud(
    points=rng.random((count, 3)),
    normals=np.zeros((count, 3), np.float32),
    colors=rng.integers(0, 256, (count, 3)).astype(np.uint8),
    confidence=rng.random(count, dtype=np.float32),
)
records = copc._records

def write(most):
    def and_then_full(*arguments):
        found = records(*arguments)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        return found

    copc._records = and_then_full
    try:
        copc.write_copc(path, [cloud], node_points=1000)
        return path.stat().st_size
    except OSError as error:
        return "refused"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)

size = write(1 << 30)
print(*(write(most) for most in (0, 1000, size // 2, size - 500, size - 1, size)), size)
"""


def test_wherever_it_ends_the_file_is_refused_and_the_process_lives(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _WRITE, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    *refused, whole, size = ended.stdout.split()
    assert refused == ["refused"] * 5
    assert whole == size


def test_mapped_rows_have_their_place_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refdepth.io.copc, "_IN_MEMORY", 100)
    rows = refdepth.io.copc._room(100_000, tmp_path / "rows")
    found = (tmp_path / "rows").stat()
    assert found.st_size == rows.nbytes
    assert found.st_blocks * 512 >= rows.nbytes
