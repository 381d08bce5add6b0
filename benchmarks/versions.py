"""States of the code, the present one and others, whose commands are run side by side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, "-c", "from refdepth.cli.main import main; main()"]
PROBE = """
import json, numba, refdepth, refdepth.compiled
from refdepth.pipeline.config import RuntimeSettings
numba.get_num_threads()
known = "workers" in RuntimeSettings.model_fields
print(json.dumps({"file": refdepth.__file__, "workers": known, "layer": numba.threading_layer()}))
"""


@dataclass(frozen=True, kw_only=True)
class Version:
    """One state of the code."""

    name: str
    """`new` or `old`."""
    root: Path
    work: Path
    """Folder for its workspaces."""
    kernels: Path
    """Folder of its compiled code."""

    @property
    def prepared(self) -> Path:
        """The workspace that is copied."""
        return self.work / "prepared"

    def environment(self, kernels: Path, layer: str | None = None) -> dict[str, str]:
        """In which Python imports this version."""
        own = {"PYTHONPATH": str(self.root), "NUMBA_CACHE_DIR": str(kernels)}
        return os.environ | own | ({"NUMBA_THREADING_LAYER": layer} if layer else {})

    def probe(self) -> dict[str, Any]:
        """Whether it knows workers, and the threading layer it runs on."""
        self.work.mkdir()
        command, environment = [sys.executable, "-c", PROBE], self.environment(self.kernels)
        said = subprocess.check_output(command, env=environment, cwd=self.work, text=True)
        facts: dict[str, Any] = json.loads(said)
        if not Path(facts["file"]).is_relative_to(self.root):
            sys.exit(f"{facts['file']} is imported instead of what is in {self.root}")
        git = ["git", "-C", str(self.root), "describe", "--always", "--dirty"]
        found = subprocess.run(git, capture_output=True, text=True, check=False)
        return facts | {"revision": found.stdout.strip() or "unknown"}


@contextmanager
def old_version(given: str, place: Path) -> Iterator[Path]:
    """The root of another version: a folder, or a revision, checked out for as long."""
    if Path(given).is_dir():
        yield Path(given).resolve()
        return
    git, root = ["git", "-C", str(ROOT), "worktree"], place / "old-version"
    subprocess.run([*git, "add", "--quiet", "--detach", str(root), given], check=True)
    try:
        yield root
    finally:
        subprocess.run([*git, "remove", "--force", str(root)], check=True)
