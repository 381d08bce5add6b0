"""Process settings that speed depends on. The one place that touches the environment.

OpenMP workers that spin between torch's parallel regions take the cores from numba's kernels;
letting them sleep makes an iteration of the refinement an eighth faster (benchmarks/RESULTS.md).
The variable is read when torch is first imported, hence this runs before anything heavy.
"""

from __future__ import annotations

import os

SETTINGS = {"OMP_WAIT_POLICY": "passive", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
"""Environment variables the command line sets where the user has not."""


def prepare_process() -> None:
    """Applies `SETTINGS`; what the user has set stays."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
