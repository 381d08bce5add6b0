"""Presets and refusals of the refinement's settings."""

import subprocess
import sys

import pytest

from refdepth.refine.mesh.settings import FineSettings
from refdepth.refine.settings import RefineSettings


def test_fast_takes_no_gradient_steps_and_high_works_harder():
    fast, balanced, high = (RefineSettings.preset(q) for q in ("fast", "balanced", "high"))
    assert fast.iterations == 0 < balanced.iterations < high.iterations


def test_paper_is_the_published_method_alone():
    paper = RefineSettings.preset("paper")
    assert not paper.discrete
    assert paper.iterations == 24_000
    assert paper.fine.weights.shape == 400


def test_two_numbers_of_steps_are_refused():
    with pytest.raises(ValueError, match=r"set refine\.iterations"):
        RefineSettings(iterations=5, fine=FineSettings(iterations=9))


def test_importing_the_settings_loads_nothing_heavy():
    code = (
        "import sys, refdepth.refine.settings; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'numba', 'open3d', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
