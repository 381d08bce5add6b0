"""Worker processes started from a plain script."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from fault_runs import make_photos

SCRIPT = """
import logging, refdepth
print("once", flush=True)
logging.basicConfig(level="INFO", format="%(message)s")
refdepth.reconstruct({photos!r}, {out!r}, model={model!r}, depth_model="sweep", quality="fast",
                     workers=2)
"""


def test_a_script_needs_no_guard_and_is_not_run_by_the_workers(tmp_path: Path) -> None:
    photos = make_photos(tmp_path)
    out = tmp_path / "out"
    script = tmp_path / "script.py"
    script.write_text(
        SCRIPT.format(photos=str(photos.images), model=str(photos.model), out=str(out))
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("once") == 1
    assert (out / "fuse" / "cloud.ply").exists()
    assert "by worker 2" in done.stderr
