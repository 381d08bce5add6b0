"""Files on a disk that fills in the middle of them: refused, never taken for whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_WRITE = """
import errno, resource, sys
from pathlib import Path
import numpy as np
from PIL import Image
from refdepth.ingest.saving import save_jpeg
from refdepth.io.depth_files import write_depth_file, write_levels
from refdepth.types.cloud import PointCloud

folder = Path(sys.argv[1])
rng = np.random.default_rng(0)
photo = Image.fromarray(rng.integers(0, 256, (150, 200, 3)).astype(np.uint8))
depth = rng.random((150, 200), dtype=np.float32)

def e57(path):
    from refdepth.io.e57 import write_e57

    cloud = PointCloud(
        points=rng.random((9000, 3)),
        normals=np.zeros((9000, 3), np.float32),
        colors=np.zeros((9000, 3), np.uint8),
        confidence=np.ones(9000, np.float32),
    )
    write_e57(path, cloud, metres_per_unit=1.0)

def exr(path):
    from refdepth.io.exr import write_exr

    write_exr(path, {"Z": depth}, {})

writers = {
    "photo.jpg": lambda path: save_jpeg(photo, path, photo, 1),
    "levels.png": lambda path: write_levels(path, np.asarray(photo)),
    "depth.tiff": lambda path: write_depth_file(path, depth),
    "depth.npy": lambda path: write_depth_file(path, depth),
    "cloud.e57": e57,
    "depth.exr": exr,
}
name = sys.argv[2]
path = folder / name
writers[name](path)
size = path.stat().st_size
for most in (size - 1, size - 2000, size // 2, 0):
    path.unlink(missing_ok=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    try:
        writers[name](path)
        print("written", most, "of", size)
    except OSError as error:
        assert error.errno in (errno.EFBIG, errno.EIO), error
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
"""


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("photo.jpg", None),
        ("levels.png", None),
        ("depth.tiff", None),
        ("depth.npy", None),
        ("cloud.e57", "pye57"),
        ("depth.exr", "OpenEXR"),
    ],
)
def test_a_file_that_finds_no_place_is_refused(
    name: str, needs: str | None, tmp_path: Path
) -> None:
    if needs is not None:
        pytest.importorskip(needs)
    command = [sys.executable, "-c", _WRITE, str(tmp_path), name]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == ""
