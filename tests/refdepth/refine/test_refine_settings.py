"""Presets and refusals of the refinement's settings."""

import subprocess
import sys

import pytest

from refdepth.errors import ConfigurationError
from refdepth.refine.settings import Method, RefineSettings


def test_fast_takes_no_gradient_steps_and_high_works_harder():
    fast, balanced, high = (RefineSettings.preset(q) for q in ("fast", "balanced", "high"))
    assert fast.iterations == 0 < balanced.iterations < high.iterations


def test_paper_is_the_published_method_alone():
    paper = RefineSettings.preset("paper")
    assert paper.method is Method.PAPER
    assert paper.gradient_steps == paper.paper.iterations == 24_000
    assert paper.paper.weights.shape == 400
    assert not paper.held_out
    assert paper.edge_reach == 0


def test_an_unknown_quality_is_refused():
    with pytest.raises(ConfigurationError, match=r"hgih.*fast, balanced, high, paper"):
        RefineSettings.preset("hgih")


def test_importing_the_settings_loads_nothing_heavy():
    code = (
        "import sys, refdepth.refine.settings; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'numba', 'open3d', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
